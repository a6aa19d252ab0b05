"""Every page of the console."""

from django.urls import path

from console_app.views import (
    backfills,
    dependency_edit,
    fires,
    overview,
    run,
    run_log,
    runs,
    schedule_edit,
    signing,
    task,
    task_edit,
    tasks,
    workers,
)

app_name = "console"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("runs/", runs.run_list, name="runs"),
    path("runs/<int:pk>/", run.run_page, name="run"),
    path("runs/<int:pk>/log", run_log.lines, name="run_log"),
    path("runs/<int:pk>/log.txt", run_log.text, name="run_log_text"),
    path("runs/<int:pk>/cancel", run.cancel, name="run_cancel"),
    path("runs/<int:pk>/terminate", run.terminate, name="run_terminate"),
    path("runs/<int:pk>/rerun", run.rerun, name="run_rerun"),
    path("runs/<int:pk>/rerun-failed", run.rerun_failed, name="run_rerun_failed"),
    path("runs/<int:pk>/hold", run.hold, name="run_hold"),
    path("runs/<int:pk>/unhold", run.unhold, name="run_unhold"),
    path("tasks/", tasks.task_list, name="tasks"),
    path("tasks/new", task_edit.new, name="task_new"),
    path("tasks/preview", schedule_edit.preview, name="schedule_preview"),
    path("tasks/<int:pk>/", task.task_page, name="task"),
    path("tasks/<int:pk>/edit", task_edit.edit, name="task_edit"),
    path("tasks/<int:pk>/delete", task_edit.delete, name="task_delete"),
    path("tasks/<int:pk>/run", task.run_now, name="task_run"),
    path("tasks/<int:pk>/pause", task.pause, name="task_pause"),
    path("tasks/<int:pk>/resume", task.resume, name="task_resume"),
    path("tasks/<int:pk>/fires/", fires.fire_list, name="fires"),
    path("tasks/<int:pk>/schedules/new", schedule_edit.new, name="schedule_new"),
    path("schedules/<int:pk>/edit", schedule_edit.edit, name="schedule_edit"),
    path("schedules/<int:pk>/delete", schedule_edit.delete, name="schedule_delete"),
    path("tasks/<int:pk>/dependencies/new", dependency_edit.new, name="dependency_new"),
    path("dependencies/<int:pk>/edit", dependency_edit.edit, name="dependency_edit"),
    path("dependencies/<int:pk>/delete", dependency_edit.delete, name="dependency_delete"),
    path("tasks/<int:pk>/backfill", backfills.new, name="backfill_new"),
    path("backfills/", backfills.backfill_list, name="backfills"),
    path("backfills/<int:pk>/", backfills.backfill_page, name="backfill"),
    path("backfills/<int:pk>/pause", backfills.pause, name="backfill_pause"),
    path("backfills/<int:pk>/resume", backfills.resume, name="backfill_resume"),
    path("backfills/<int:pk>/cancel", backfills.cancel, name="backfill_cancel"),
    path("workers/", workers.worker_list, name="workers"),
    *signing.urlpatterns,
]
