"""Work for chaos: schedules of some seconds, whose runs write themselves down, and what comes of it."""

from __future__ import annotations

import os

from tests.acceptance.chaos.history import History
from tests.acceptance.work import LONG, run_code
from tests.services import ProcessStack

# `make test-chaos`: more of it than in passing, in some five minutes.
CHAOS = LONG or os.environ.get("TEST_CHAOS") == "1"
# A worker is given up after 4 s: the length of a lease is nothing that these tests ask about.
QUICK = {"SCHEDULER_LEASE_SECONDS": "4", "SCHEDULER_HEARTBEAT_SECONDS": "1", "SCHEDULER_SWEEP_SECONDS": "2"}


def schedule_work(
    stack: ProcessStack, history: History, *, seconds: int, step: int = 1, tasks: int = 2, beats: int = 3
) -> None:
    """Every `step` seconds for `seconds` a run of each of `tasks` tasks; every second task may not run again when its
    worker is lost, and the first one has a task downstream."""
    run_code(
        stack,
        f"""
from datetime import timedelta
from tasks_app.services import dependencies
def made(name, again):
    return tasks.create(actor, home | {{"name": name, "executor": "shell", "command": {history.command(beats)!r},
        "retry_on_lost": again}}, now=now)
below = made("below", True)
end = timezone.now() + timedelta(seconds={seconds})
for n in range({tasks}):
    task = made(f"task {{n}}", n % 2 == 0)
    if n == 0:
        dependencies.create(actor, task, below, now=now)
    schedules.create(actor, task, {{"kind": "cron", "expression": "*/{step} * * * * *", "catch_up": "all",
        "max_catch_up": 1000, "end_at": end}}, now=timezone.now())
""",
    )


def wait_until_over(stack: ProcessStack, seconds: float) -> None:
    """Wait until every instant is answered and every run is over."""
    armed = "select count(*) from tasks_app_schedule where next_fire_at is not null"
    open_runs = "select count(*) from tasks_app_run where state in ('waiting', 'queued', 'running')"
    untold = "select count(*) from tasks_app_run where tell_downstream and finished_at is not null"
    stack.wait_for("the last instants", lambda: stack.value(armed) == 0, seconds)
    stack.wait_for("every end", lambda: stack.value(f"select ({open_runs}) + ({untold})") == 0, seconds)
