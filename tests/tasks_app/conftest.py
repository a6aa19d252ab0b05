"""Fixtures of the doors to the core: a signed-in administrator, a row of every model, a command that waits."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone


@pytest.fixture
def root(root_user: Any, client: Client) -> Client:
    client.force_login(root_user)
    return client


@pytest.fixture
def everything(root_user: Any) -> dict[type, Any]:
    """One row at least of every model of ours."""
    from access_app.models import ApiKey, AuditEntry
    from dispatcher_app.models import Dispatcher
    from tasks_app import models as core
    from tasks_app.services import dependencies
    from tests.tasks_app.admin_pages import ACTOR, make_run, make_task
    from workers_app.models import Worker

    now = timezone.now()
    first, second = make_task("first", schedule="* * * * *"), make_task("second")
    edge = dependencies.create(ACTOR, first, second, now=now)
    run = make_run(first)
    pool = core.Pool.objects.get(name="default")
    worker = Worker.objects.create(
        name="w", host="h", pid=1, pool=pool, slots=1, started_at=now, beat_at=now, lease_until=now
    )
    stretch = {"first_at": now, "last_at": now, "count": 1, "answer": "skipped", "reason": "pause"}
    schedule = first.schedules.get()
    backfill = core.Backfill.objects.create(
        task=first, schedule=schedule, start_at=now, end_at=now, total=1, created_at=now
    )
    return {
        core.Run: run,
        core.Backfill: backfill,
        core.RunEvent: run.events.get(),
        core.RunOutput: core.RunOutput.objects.create(
            run=run, attempt=1, first_line=0, line_count=1, lines=[["", "stdout", "x"]]
        ),
        core.RunDependency: core.RunDependency.objects.get(),
        core.LedgerEntry: core.LedgerEntry.objects.create(schedule=schedule, **stretch),
        core.TaskVersion: first.version,
        Worker: worker,
        Dispatcher: Dispatcher.objects.create(name="d", started_at=now, beat_at=now),
        AuditEntry: AuditEntry.objects.first(),
        ApiKey: ApiKey.objects.create(user=root_user, name="key")[0],
        core.Project: first.project,
        core.Pool: pool,
        core.Resource: core.Resource.objects.create(name="api", breaker_failures=3),
        core.Task: first,
        core.Schedule: schedule,
        core.TaskDependency: edge,
    }


@pytest.fixture
def staff(alice: Any, project: Any) -> Any:
    """Alice, administrator of the project analytics and of nothing else, with every right that Django can give."""
    from django.contrib.auth.models import Permission

    alice.is_staff = True
    alice.save()
    alice.user_permissions.set(Permission.objects.all())
    return alice


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens, one by one, while a command waits; when there is nothing left, waiting on is an error."""
    events: list[Any] = []

    def sleep(seconds: float) -> None:
        events.pop(0)()

    monkeypatch.setattr(time, "sleep", sleep)
    return events
