"""Work for a stack of processes to do, made through the services; and the figures that a test measures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services import ProcessStack

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
    return int(_shell(stack, f"print(tasks.create(actor, {given!r} | home, now=now).pk)").split()[-1])


def create_schedules(stack: ProcessStack, count: int, expression: str) -> None:
    """Tasks that do nothing, each with the same cron schedule."""
    _shell(
        stack,
        f"""
for n in range({count}):
    fields = {{**home, "name": f"t{{n}}", "executor": "callable", "command": "{NOOP}"}}
    task = tasks.create(actor, fields, now=now)
    schedules.create(actor, task, {{"kind": "cron", "expression": "{expression}"}}, now=timezone.now())
""",
    )


def create_sleepers(stack: ProcessStack, seconds: int = 60) -> tuple[int, int]:
    """Two tasks that sleep: one that may run again when its worker is lost, and one that may not."""
    command = f"exec sleep {seconds}"
    again = create_task(stack, "again", "shell", command, retry_on_lost=True)
    return again, create_task(stack, "once", "shell", command)


def trigger(stack: ProcessStack, *wanted: tuple[int, int]) -> None:
    """Plan runs: (task, how many) pairs."""
    _shell(
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


def _shell(stack: ProcessStack, code: str) -> str:
    return stack.run("shell", "-c", PREAMBLE + code)
