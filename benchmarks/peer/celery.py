"""The peer's Celery application, with Celery's own defaults but for what only helps it: results ignored, and one
database connection for all tasks of a process."""

import os

import django
from celery import Celery
from django.utils import timezone

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"
django.setup()
app = Celery("peer", broker=os.environ["CELERY_BROKER_URL"])
app.conf.update(task_default_queue=os.environ["SCHEDULER_QUEUE_PREFIX"] + ".peer", task_ignore_result=True)
# Celery closes the database connection after each task unless told how many may share it; a careful user tells it.
app.conf["CELERY_DB_REUSE_MAX"] = 1_000_000


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def run_job(pk: int) -> None:
    """A no-op with the usual durable trace: one row, saved at start and end."""
    from benchmarks.peer.models import JobRow

    row = JobRow.objects.get(pk=pk)
    row.state, row.started_at = "running", timezone.now()
    row.save(update_fields=["state", "started_at"])
    row.state, row.finished_at = "done", timezone.now()
    row.save(update_fields=["state", "finished_at"])


def submit(count: int) -> None:
    """Create `count` rows and announce each, one by one, as a web request would."""
    from benchmarks.peer.models import JobRow

    for _ in range(count):
        run_job.delay(JobRow.objects.create().pk)
