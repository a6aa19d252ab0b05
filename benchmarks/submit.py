"""Child of throughput.py: submits COUNT no-op runs to one side. `python -m benchmarks.submit ours|peer COUNT`.

Prints `ready` when it has imported everything and reached the database, then waits for a line on its standard input.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def ours(count: int) -> Callable[[], None]:
    """As `POST /api/tasks/{id}/trigger-batch` does it: up to 10,000 runs a call."""
    import django

    django.setup()
    from django.utils import timezone

    from access_app.actors import system_actor
    from tasks_app.models import Task
    from tasks_app.services import runs

    task = Task.objects.select_related("version").get(name="noop")

    def submit() -> None:
        for start in range(0, count, runs.MAX_BATCH):
            batch = [runs.Request() for _ in range(min(runs.MAX_BATCH, count - start))]
            runs.trigger_batch(system_actor("benchmark"), task, batch, now=timezone.now())

    return submit


def peer(count: int) -> Callable[[], None]:
    """One row and one message after the other, as a web request would."""
    from benchmarks.peer import celery
    from benchmarks.peer.models import JobRow

    JobRow.objects.exists()
    return lambda: celery.submit(count)


if __name__ == "__main__":
    submit = {"ours": ours, "peer": peer}[sys.argv[1]](int(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    submit()
