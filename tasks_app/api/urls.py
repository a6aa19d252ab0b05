from access_app.api.routing import routes
from tasks_app.api.backfills import (
    BackfillCancelView,
    BackfillPauseView,
    BackfillResumeView,
    BackfillsView,
    BackfillView,
    TaskBackfillView,
)
from tasks_app.api.calendars import CalendarCheckView, CalendarsView, CalendarView
from tasks_app.api.dependencies import DependenciesView, DependencyView, GraphView
from tasks_app.api.fires import FiresView
from tasks_app.api.members import GroupMembersView, GroupMemberView, MembersView, MemberView
from tasks_app.api.pools import PoolsView, PoolView
from tasks_app.api.projects import ProjectsView, ProjectView
from tasks_app.api.resources import ResetView, ResourcesView, ResourceView, TripView
from tasks_app.api.runs import (
    CancelView,
    HoldView,
    ReleaseView,
    RerunView,
    RunDeathsView,
    RunEventsView,
    RunLogTextView,
    RunLogView,
    RunsView,
    RunView,
    TerminateView,
    UnholdView,
)
from tasks_app.api.schedules import PreviewView, ScheduleView, TaskSchedulesView
from tasks_app.api.secrets import SecretsView, SecretView
from tasks_app.api.task_verbs import (
    PauseView,
    ResumeView,
    TaskRunsView,
    TaskStatsView,
    TriggerBatchView,
    TriggerView,
    UpcomingView,
    VersionsView,
)
from tasks_app.api.tasks import TasksView, TaskView

urlpatterns = routes(
    ("projects", ProjectsView),
    ("projects/<int:project_id>", ProjectView),
    ("projects/<int:project_id>/members", MembersView),
    ("projects/<int:project_id>/members/<str:username>", MemberView),
    ("projects/<int:project_id>/groups", GroupMembersView),
    ("projects/<int:project_id>/groups/<int:group_id>", GroupMemberView),
    ("pools", PoolsView),
    ("pools/<int:pool_id>", PoolView),
    ("calendars", CalendarsView),
    ("calendars/<int:calendar_id>", CalendarView),
    ("calendars/<int:calendar_id>/check", CalendarCheckView),
    ("resources", ResourcesView),
    ("resources/<int:resource_id>", ResourceView),
    ("resources/<int:resource_id>/trip", TripView),
    ("resources/<int:resource_id>/reset", ResetView),
    ("secrets", SecretsView),
    ("secrets/<int:secret_id>", SecretView),
    ("tasks", TasksView),
    ("tasks/<int:task_id>", TaskView),
    ("tasks/<int:task_id>/trigger", TriggerView),
    ("tasks/<int:task_id>/trigger-batch", TriggerBatchView),
    ("tasks/<int:task_id>/pause", PauseView),
    ("tasks/<int:task_id>/resume", ResumeView),
    ("tasks/<int:task_id>/versions", VersionsView),
    ("tasks/<int:task_id>/runs", TaskRunsView),
    ("tasks/<int:task_id>/upcoming", UpcomingView),
    ("tasks/<int:task_id>/stats", TaskStatsView),
    ("tasks/<int:task_id>/schedules", TaskSchedulesView),
    ("tasks/<int:task_id>/graph", GraphView),
    ("tasks/<int:task_id>/backfill", TaskBackfillView),
    ("backfills", BackfillsView),
    ("backfills/<int:backfill_id>", BackfillView),
    ("backfills/<int:backfill_id>/pause", BackfillPauseView),
    ("backfills/<int:backfill_id>/resume", BackfillResumeView),
    ("backfills/<int:backfill_id>/cancel", BackfillCancelView),
    ("schedules/preview", PreviewView),
    ("schedules/<int:schedule_id>", ScheduleView),
    ("dependencies", DependenciesView),
    ("dependencies/<int:dependency_id>", DependencyView),
    ("fires", FiresView),
    ("runs", RunsView),
    ("runs/<int:run_id>", RunView),
    ("runs/<int:run_id>/events", RunEventsView),
    ("runs/<int:run_id>/deaths", RunDeathsView),
    ("runs/<int:run_id>/log", RunLogView),
    ("runs/<int:run_id>/log.txt", RunLogTextView),
    ("runs/<int:run_id>/cancel", CancelView),
    ("runs/<int:run_id>/terminate", TerminateView),
    ("runs/<int:run_id>/rerun", RerunView),
    ("runs/<int:run_id>/release", ReleaseView),
    ("runs/<int:run_id>/hold", HoldView),
    ("runs/<int:run_id>/unhold", UnholdView),
)
