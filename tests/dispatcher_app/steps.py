"""Firing by hand, and what came of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from dispatcher_app import firing
from dispatcher_app.firing import fire_due
from tasks_app.models import LedgerEntry, Run, Schedule
from tasks_app.services.schedules import timing_of
from tests.tasks_app.clock import at
from tests.tasks_app.making import ACTOR

NOON = at("2026-03-02T12:00:00Z")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def fire(now: datetime) -> firing.Fired:
    fired = fire_due(now, actor=ACTOR)
    late = Schedule.objects.filter(enabled=True, next_fire_at__lte=now)
    assert not late.exists(), "a schedule was left behind"
    return fired


def fired_at(schedule: Schedule) -> list[datetime]:
    runs = Run.objects.filter(schedule=schedule).order_by("nominal_at")
    return [instant for instant in runs.values_list("nominal_at", flat=True) if instant is not None]


def ledger_of(schedule: Schedule) -> list[tuple[int, str, str]]:
    entries = LedgerEntry.objects.filter(schedule=schedule).order_by("first_at")
    return list(entries.values_list("count", "answer", "reason"))


def assert_ledger_is_complete(schedule: Schedule, after: datetime, until: datetime) -> None:
    expected = timing_of(schedule).count_between(after, until)
    explained = LedgerEntry.objects.filter(schedule=schedule).aggregate(n=Sum("count"))["n"] or 0
    assert expected == len(fired_at(schedule)) + explained


def queries_of(now: datetime) -> int:
    with CaptureQueriesContext(connection) as captured:
        fire(now)
    return len(captured)
