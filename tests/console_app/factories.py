"""Tasks, and runs of them in any state, made by the ways that really lead there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from access_app.actors import system_actor
from dispatcher_app.models import Dispatcher
from tasks_app import moves, transitions
from tasks_app.models import Pool, Project, Run, RunOutput, Task
from tasks_app.services import runs, tasks
from tasks_app.states import TERMINAL, RunState
from workers_app.models import Worker

LINE_TIME = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


def make_task(project: Project, name: str = "extract", **fields: Any) -> Task:
    values = {"project": project, "name": name, "executor": "shell", "command": "echo hello", **fields}
    values.setdefault("pool", Pool.objects.get(name="default"))
    return tasks.create(system_actor(), values, now=timezone.now())


def make_run(task: Task, state: RunState = RunState.WAITING, **outcome: Any) -> Run:
    """A run of the task, moved to `state` by the transitions that really lead there."""
    now = timezone.now()
    run, _created = runs.trigger(system_actor(), task, runs.Request(), now=now)
    if state is RunState.CANCELLED:
        transitions.cancel_unstarted([run.pk], now=now, actor="test")
    elif state is not RunState.WAITING:
        transitions.enqueue([run.pk], now=now, sweep_at=now + timedelta(seconds=15), actor="test")
    if state in (TERMINAL | {RunState.RUNNING}) - {RunState.CANCELLED}:
        worker = uuid4()
        transitions.claim([(run.pk, 1)], worker_id=worker, now=now, actor="test")
        if state in TERMINAL:
            ended = moves.Outcome(run.pk, 1, state, **outcome)
            transitions.finish([ended], worker_id=worker, now=now + timedelta(seconds=3), actor="test")
    run.refresh_from_db()
    return run


def write_lines(run: Run, texts: list[str], *, first: int = 0, attempt: int = 1, stream: str = "stdout") -> None:
    lines = [[LINE_TIME.isoformat().replace("+00:00", "Z"), stream, text] for text in texts]
    RunOutput.objects.create(run=run, attempt=attempt, first_line=first, line_count=len(lines), lines=lines)


def make_worker(name: str = "worker-1", **fields: Any) -> Worker:
    now = timezone.now()
    values = {
        "host": "node-1",
        "pid": 42,
        "pool": Pool.objects.get(name="default"),
        "slots": 4,
        "started_at": now,
        "beat_at": now,
        "lease_until": now + timedelta(seconds=15),
        **fields,
    }
    return Worker.objects.create(name=name, **values)


def make_dispatcher(name: str = "dispatcher-1", *, silent_for: timedelta = timedelta()) -> Dispatcher:
    now = timezone.now()
    return Dispatcher.objects.create(name=name, started_at=now - timedelta(hours=1), beat_at=now - silent_for)
