"""Child of throughput.py: submits COUNT no-op runs to one side. `python -m benchmarks.submit ours|peer COUNT`."""

from __future__ import annotations

import sys


def ours(count: int) -> None:
    """As `POST /api/tasks/{id}/trigger-batch` does it: 10,000 runs a call."""
    import django

    django.setup()
    from django.utils import timezone

    from access_app.actors import system_actor
    from tasks_app.models import Task
    from tasks_app.services import runs

    task = Task.objects.select_related("version").get(name="noop")
    for start in range(0, count, runs.MAX_BATCH):
        batch = [runs.Request() for _ in range(min(runs.MAX_BATCH, count - start))]
        runs.trigger_batch(system_actor("benchmark"), task, batch, now=timezone.now())


def peer(count: int) -> None:
    from benchmarks.peer.celery import submit

    submit(count)


if __name__ == "__main__":
    {"ours": ours, "peer": peer}[sys.argv[1]](int(sys.argv[2]))
