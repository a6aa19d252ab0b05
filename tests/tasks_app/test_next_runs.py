"""The next fire that is shown anywhere is the next that really runs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasks_app import queries
from tasks_app.management.commands.upcoming import next_fires
from tasks_app.models import Calendar, Schedule, Task
from tests.tasks_app.clock import at
from tests.tasks_app.making import NOW, later, make_schedule

pytestmark = pytest.mark.django_db
OFFICE = {"allowed": [{"kind": "weekly", "days": ["tue"], "from": "09:00", "to": "17:00"}]}
TUESDAY = at("2026-03-03T09:00:00Z")


@pytest.fixture
def rows() -> list[Schedule]:
    office = Calendar.objects.create(name="office", document=OFFICE)
    closed = Calendar.objects.create(name="closed", document={"blackout": [{"kind": "weekly"}]})
    return [
        make_schedule(after=NOW, calendar=office),
        make_schedule(after=NOW, expression="0 * * * *"),
        make_schedule(after=NOW, expression="0 20 * * *", calendar=office, calendar_action="next_allowed"),
        make_schedule(after=NOW, calendar=closed),
        make_schedule(after=NOW, expression="0 6 * * *", enabled=False),
    ]


def test_lists_are_in_the_order_in_which_schedules_really_run(rows):
    found = queries.upcoming_fires(Task.objects.all(), now=NOW, count=10)
    assert [(row.pk, row.shown_next_at) for row in found] == [
        (rows[1].pk, at("2026-03-02T13:00:00Z")),
        (rows[0].pk, TUESDAY),
        (rows[2].pk, TUESDAY),
    ]
    assert [row.pk for row in queries.upcoming_fires(Task.objects.all(), now=NOW, count=2)] == [rows[1].pk, rows[0].pk]


def test_the_command_lists_runs_and_not_instants(rows, django_assert_max_num_queries):
    with django_assert_max_num_queries(5):
        found = next_fires(Schedule.objects.select_related("task"), Task.objects.all(), now=NOW, count=24)
    assert [(moment, row.pk) for moment, row in found[19:24]] == [
        (at("2026-03-03T08:00:00Z"), rows[1].pk),
        (TUESDAY, rows[0].pk),
        (TUESDAY, rows[1].pk),
        (TUESDAY, rows[2].pk),
        (TUESDAY + timedelta(minutes=1), rows[0].pk),
    ]


def test_an_overdue_schedule_is_shown_when_it_runs_again(rows):
    overdue = make_schedule(after=later(hours=-1), expression="15 * * * *")
    found = next_fires(Schedule.objects.select_related("task"), Task.objects.all(), now=NOW, count=2)
    assert [(moment, row.pk) for moment, row in found] == [
        (at("2026-03-02T12:15:00Z"), overdue.pk),
        (at("2026-03-02T13:00:00Z"), rows[1].pk),
    ]
