"""What is there in masses costs no more than it must: old runs, schedules of one hour, a backfill beside live work.

TEST_LONG=1: a million runs and more, instead of some thousand.
"""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from access_app.actors import system_actor
from dispatcher_app.firing import fire_due
from dispatcher_app.release import release_ready
from monitoring_app.history import prune_runs
from tasks_app.models import Run, Schedule
from tasks_app.rowset import database_now
from tasks_app.services import backfills
from tasks_app.states import RunState
from tests.acceptance.work import LONG, say
from tests.tasks_app.making import ACTOR, NOW, bring, make_schedule, make_task, plan, state_of

pytestmark = pytest.mark.django_db
SHOWN, KEPT, HOURLY = (1_000_000, 2_000_000, 10_000) if LONG else (5_000, 5_000, 1_000)
HOUR = timedelta(hours=1)
# Of one page, and of one transaction of what prunes: beside work, on a machine that has other things to do.
PAGE_SECONDS, BATCH_SECONDS = 3.0, 10.0


def ended_runs(number: int, tasks: int = 20) -> None:
    """So many runs that ended in the course of the last 100 days, with the events of each."""
    now = database_now()
    for _ in range(tasks):
        (id,) = plan(make_task(), now=now)
        bring(id, RunState.SUCCEEDED, now=now)
    columns = [str(field.column) for field in Run._meta.concrete_fields if not field.primary_key]
    times = ("created_at", "due_at", "queued_at", "started_at", "finished_at")
    given = [
        f"{name} - (100 * (1 - n / {number / tasks})) * interval '1 day'" if name in times else name for name in columns
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO tasks_app_run ({", ".join(columns)}) SELECT {", ".join(given)}
            FROM generate_series(1, {number // tasks}) AS n, tasks_app_run ORDER BY n"""
        )
        cursor.execute("DELETE FROM tasks_app_runevent")
        cursor.execute(
            """INSERT INTO tasks_app_runevent (run_id, at, from_state, to_state, attempt, reason, detail, actor)
            SELECT id, finished_at, old, new, 1, '', '', 'test' FROM tasks_app_run, (VALUES (1, '', 'waiting'),
            (2, 'waiting', 'queued'), (3, 'queued', 'running'), (4, 'running', 'succeeded')) AS moves (n, old, new)
            ORDER BY id, n"""
        )
        cursor.execute("ANALYZE")


@pytest.mark.postgresql
def test_the_pages_of_the_console_answer_at_once_over_a_million_runs(root_user, capsys):
    ended_runs(SHOWN)
    client = Client()
    client.force_login(root_user)
    took = {}
    for path in ("/", "/runs/", "/runs/?state=succeeded", "/tasks/", "/api/system/stats", "/metrics"):
        started = time.monotonic()
        assert client.get(path).status_code == 200, path
        took[path] = time.monotonic() - started
    say(capsys, f"{Run.objects.count():,} runs: " + ", ".join(f"{path} {s * 1000:.0f} ms" for path, s in took.items()))
    assert max(took.values()) < PAGE_SECONDS


@pytest.mark.postgresql
def test_old_runs_are_deleted_from_two_million_in_short_transactions(capsys):
    ended_runs(KEPT)
    before, total = database_now() - timedelta(days=90), Run.objects.count()
    old = Run.objects.filter(finished_at__lt=before).count()
    started = latest = time.monotonic()
    longest = 0.0
    for _done in prune_runs(before):
        longest, latest = max(longest, time.monotonic() - latest), time.monotonic()
    seconds = time.monotonic() - started
    assert not Run.objects.filter(finished_at__lt=before).exists() and Run.objects.count() == total - old
    say(capsys, f"{old:,} of {total:,} runs deleted in {seconds:.0f} s; the longest transaction {longest:.2f} s")
    assert longest < BATCH_SECONDS


def test_ten_thousand_schedules_of_the_same_hour_are_all_fired_and_the_next_hour_is_armed(capsys):
    template = make_schedule(after=NOW, expression="0 * * * *")
    copied = [field for field in Schedule._meta.concrete_fields if not field.primary_key]
    values = {field.attname: getattr(template, field.attname) for field in copied}
    Schedule.objects.bulk_create(Schedule(**values) for _ in range(HOURLY - 1))
    fired, started = 0, time.monotonic()
    while (one := fire_due(NOW + HOUR, actor=ACTOR)).schedules:
        fired += one.runs
    say(capsys, f"{HOURLY:,} schedules of one hour fired in {time.monotonic() - started:.1f} s")
    assert fired == Run.objects.count() == HOURLY
    assert not Schedule.objects.filter(next_fire_at__lte=NOW + HOUR).exists()


def test_a_backfill_of_ten_thousand_does_not_delay_the_work_of_the_day():
    schedule = make_schedule(after=NOW - timedelta(hours=10_001), expression="0 * * * *")
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=NOW + HOUR)
    start = NOW - (9_990 if LONG else 500) * HOUR
    wish = backfills.Wish(start=start, end=NOW - HOUR, max_concurrent=10)
    backfill = backfills.plan(system_actor(), schedule.task, wish, now=NOW)
    assert backfill.total >= (9_980 if LONG else 490)
    assert len(release_ready(NOW, actor=ACTOR)) == 10
    (live,) = plan(make_task())
    released = [run.id for run in release_ready(NOW, actor=ACTOR)]
    assert released == [live] and state_of(live) == RunState.QUEUED
