"""One of several processes that write to the same SQLite file: plans runs and carries them to their end.

`python -m tests.concurrency.sqlite_writer NUMBER ROUNDS`, with DATABASE_URL set. Prints the ids that it finished.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from uuid import UUID

import django


def main(number: int, rounds: int) -> list[int]:
    """Each round plans ten runs, releases, claims and finishes what it can get."""
    from access_app.actors import system_actor
    from dispatcher_app.firing import fire_due
    from dispatcher_app.release import release_ready
    from tasks_app import transitions
    from tasks_app.models import Task
    from tasks_app.moves import Outcome
    from tasks_app.services import runs
    from tasks_app.states import RunState

    worker, finished = UUID(int=number + 1), []
    task = Task.objects.select_related("version").get(name="shared")
    for _ in range(rounds):
        now = datetime.now(UTC)
        runs.trigger_batch(system_actor(), task, [runs.Request() for _ in range(10)], now=now)
        fire_due(now, actor="test")
        pairs = [(run.id, run.attempt) for run in release_ready(now, actor="test")]
        claimed = transitions.claim(pairs, worker_id=worker, now=now, actor="test")
        outcomes = [Outcome(run.id, run.attempt, RunState.SUCCEEDED) for run in claimed]
        finished += sorted(transitions.finish(outcomes, worker_id=worker, now=now, actor="test"))
    return finished


if __name__ == "__main__":
    django.setup()
    json.dump(main(int(sys.argv[1]), int(sys.argv[2])), sys.stdout)
