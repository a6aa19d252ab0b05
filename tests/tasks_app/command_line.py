"""What tests of commands share: tasks and runs to act on, and calls with their answers."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from access_app.actors import system_actor
from tasks_app import moves, transitions
from tasks_app.models import Pool, Project, Run, Task
from tasks_app.services import runs, tasks
from tasks_app.states import RunState

ACTOR = system_actor("command tester")


def make_task(name: str = "daily", project: str = "default", schedule: str | None = None, **fields: Any) -> Task:
    fields = {"executor": "shell", "command": "echo", "schedule": schedule} | fields
    where = {"project": Project.objects.get_or_create(name=project)[0], "pool": Pool.objects.get(name="default")}
    return tasks.create(ACTOR, {"name": name, **where, **fields}, now=timezone.now())


def make_run(task: Task) -> Run:
    return runs.trigger(ACTOR, task, runs.Request(), now=timezone.now())[0]


def end(run: Run, state: RunState, detail: str = "", *, attempt: int = 1) -> None:
    """Take the run all the way, as dispatcher and worker do."""
    now, worker_id = timezone.now(), uuid4()
    transitions.enqueue([run.pk], now=now, sweep_at=now + timedelta(minutes=1), actor="dispatcher")
    transitions.claim([(run.pk, attempt)], worker_id=worker_id, now=now, actor="worker")
    outcome = moves.Outcome(run.pk, attempt, state, "exit_code" if detail else "", detail)
    transitions.finish([outcome], worker_id=worker_id, now=now, actor="worker")


def run_command(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def refused(*arguments: str) -> CommandError:
    with pytest.raises(CommandError) as error:
        run_command(*arguments)
    return error.value
