"""Work for a stack of processes to do, made through the services; and the figures that a test measures."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.services import ProcessStack

LONG = os.environ.get("TEST_LONG") == "1"
RECOVERY_SECONDS = 30
NOOP = "workers_app.samples.noop"
PREAMBLE = """
from django.utils import timezone
from access_app.actors import system_actor
from tasks_app.models import Pool, Project, Task
from tasks_app.services import runs, schedules, tasks
actor, now = system_actor("test"), timezone.now()
home = {"project": Project.objects.get(name="default"), "pool": Pool.objects.get(name="default")}
"""


def create_task(stack: ProcessStack, name: str, executor: str, command: str, **fields: object) -> int:
    """A task in the default project and pool; its id."""
    given = {"name": name, "executor": executor, "command": command, **fields}
    return int(run_code(stack, f"print(tasks.create(actor, {given!r} | home, now=now).pk)").split()[-1])


def create_schedules(stack: ProcessStack, count: int, expression: str) -> None:
    """Tasks that do nothing, each with the same cron schedule."""
    run_code(
        stack,
        f"""
for n in range({count}):
    fields = {{**home, "name": f"t{{n}}", "executor": "callable", "command": "{NOOP}"}}
    task = tasks.create(actor, fields, now=now)
    schedules.create(actor, task, {{"kind": "cron", "expression": "{expression}"}}, now=timezone.now())
""",
    )


def create_sleepers(stack: ProcessStack) -> tuple[int, int]:
    """Two tasks that sleep: one that may run again when its worker is lost, and one that may not."""
    command = "exec sleep 60"
    again = create_task(stack, "again", "shell", command, retry_on_lost=True)
    return again, create_task(stack, "once", "shell", command)


def trigger(stack: ProcessStack, *wanted: tuple[int, int]) -> None:
    """Plan runs: (task, how many) pairs."""
    run_code(
        stack,
        f"""
for task, count in {wanted!r}:
    runs.trigger_batch(actor, Task.objects.get(pk=task), [runs.Request() for _ in range(count)], now=now)
""",
    )


def states(stack: ProcessStack) -> dict[str, int]:
    """How many runs are in each state."""
    return dict(stack.rows("select state, count(*) from tasks_app_run group by state"))


def say(capsys: pytest.CaptureFixture[Any], text: str) -> None:
    """Print a measured figure past pytest's capture."""
    with capsys.disabled():
        print(f"\n  {text}")  # noqa: T201  (the figures are what a long run is for)


def run_code(stack: ProcessStack, code: str) -> str:
    """Run Python on the stack's database; it finds `actor`, `now`, `home`, the models and services of PREAMBLE."""
    return stack.run("shell", "-c", PREAMBLE + code)
