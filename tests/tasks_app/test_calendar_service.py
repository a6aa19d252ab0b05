"""Calendars as people keep them: what is refused, what they include, and how the schedules follow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app import calendar_rows
from tasks_app.errors import InvalidInput, NotFound, WrongState
from tasks_app.models import Calendar, Project, Resource, Schedule
from tasks_app.services import calendars, schedules, tasks
from tests.dispatcher_app.steps import fire, fired_at
from tests.tasks_app.clock import at
from tests.tasks_app.making import NOW, make_schedule, make_task

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()
NOON_CLOSED = {"blackout": [{"kind": "weekly", "from": "12:00", "to": "13:00", "name": "Lunch"}]}
OFFICE = {"allowed": [{"kind": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}]}


def make(name: str = "c", **fields: Any) -> Calendar:
    return calendars.create(SYSTEM, {"name": name, **fields}, now=NOW)


def change(calendar: Calendar, **fields: Any) -> Calendar:
    return calendars.update(SYSTEM, calendar, fields, now=NOW)


def errors(call: Any, *arguments: Any, **options: Any) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        call(*arguments, **options)
    return set(caught.value.errors)


def default_project() -> Project:
    return Project.objects.get(name="default")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"description": "a\x00b"}, "description"),
        ({"document": []}, "document"),
        ({"document": {"allowed": [{"kind": "moon"}]}}, "document"),
        ({"document": {"blackout": [{"kind": "dates", "dates": ["2026-01-01"], "name": "n" * 101}]}}, "document"),
        ({"document": {"time_zone": "x" * 300_000}}, "document"),
        ({"document": {"time_zone": "Mars/Olympus"}}, "document"),
        ({"holidays": {}}, "holidays"),
        ({"holidays": [{}]}, "holidays"),
        ({"holidays": ["DE"]}, "holidays"),
        ({"holidays": [{"country": "DE", "colour": "red"}]}, "holidays"),
        ({"holidays": [{"country": "XX"}]}, "holidays"),
        ({"holidays": [{"country": "DE", "subdivision": "XX"}]}, "holidays"),
        ({"holidays": [{"country": "DE"}] * 21}, "holidays"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_written(fields, field):
    kept = make("kept")
    before = list(Calendar.objects.values())
    assert errors(make, **{"name": "new", **fields}) == {field}
    assert errors(change, kept, **fields) == {field}
    assert list(Calendar.objects.values()) == before


def test_a_name_is_taken_once_in_a_project_and_once_among_the_shared():
    other = Project.objects.create(name="other")
    for project in (None, default_project(), other):
        make("same", project=project)
        assert errors(make, "same", project=project) == {"name"}


def test_every_change_is_in_the_audit_trail():
    calendar = make("c", document=OFFICE)
    change(calendar, description="new", includes=[make("part")])
    calendars.delete(SYSTEM, calendar, now=NOW)
    entries = AuditEntry.objects.filter(object_type="calendar", object_name="c").order_by("pk")
    assert list(entries.values_list("verb", flat=True)) == ["create", "update", "delete"]


# What it includes


def test_included_calendars_count_to_any_depth():
    lunch, office = make("lunch", document=NOON_CLOSED), make("office", document=OFFICE)
    middle = make("middle", includes=[lunch])
    top = make("top", includes=[middle, office])
    together = calendars.calendar_of([top.pk])
    assert not together.allows(at("2026-03-02T12:30:00Z"))
    assert together.allows(at("2026-03-02T13:30:00Z"))
    assert not together.allows(at("2026-03-02T20:00:00Z"))
    assert calendars.calendar_of([middle.pk]).allows(at("2026-03-02T20:00:00Z"))
    assert calendar_rows.including([lunch.pk]) == sorted([lunch.pk, middle.pk, top.pk])


def test_a_circle_is_refused_with_its_path():
    one = make("one")
    two = make("two", includes=[one])
    three = make("three", includes=[two])
    with pytest.raises(InvalidInput) as caught:
        change(one, includes=[three])
    text = caught.value.errors["includes"][0]
    assert all(name in text for name in ("one", "two", "three"))
    assert errors(change, one, includes=[one]) == {"includes"}
    assert not one.includes.exists()


def test_only_shared_calendars_and_those_of_the_project_are_included():
    shared, own = make("shared"), make("own", project=default_project())
    foreign = make("foreign", project=Project.objects.create(name="other"))
    change(own, includes=[shared])
    assert errors(change, own, includes=[foreign]) == {"includes"}
    assert errors(change, shared, includes=[own]) == {"includes"}


def test_a_circle_in_the_rows_ends_all_the_same():
    one, two = make("one", document=NOON_CLOSED), make("two")
    one.includes.add(two)
    two.includes.add(one)
    assert not calendars.calendar_of([two.pk]).allows(at("2026-03-02T12:30:00Z"))


def test_any_number_of_calendars_is_read_in_two_queries_and_again_in_one(django_assert_num_queries):
    lunch = make("lunch", document=NOON_CLOSED)
    ids = [make(f"c{number}", document=OFFICE, includes=[lunch]).pk for number in range(10)]
    with django_assert_num_queries(2):
        found = calendar_rows.load([*ids, None])
    with django_assert_num_queries(1):
        again = calendar_rows.load(ids)
    assert [again.of(id) for id in ids] == [found.of(id) for id in ids]
    with django_assert_num_queries(0):
        assert calendar_rows.load([None]).of(None) is None


# Public holidays


def test_holidays_are_worked_out_when_the_calendar_is_saved():
    calendar = make("c", holidays=[{"country": "DE", "subdivision": "BY", "name": "Bavaria"}])
    result = calendars.check(calendar, at("2026-01-06T10:00:00Z"))
    assert (result["allowed"], "Bavaria" in result["reason"]) == (False, True)
    assert result["next_allowed"] == at("2026-01-07T00:00:00Z")
    assert calendars.check(calendar, at("2036-12-25T10:00:00Z"))["allowed"] is False
    assert calendars.check(calendar, at("2026-01-07T10:00:00Z"))["allowed"] is True
    change(calendar, holidays=[])
    assert calendars.check(Calendar.objects.get(), at("2026-01-06T10:00:00Z"))["allowed"] is True


def test_days_worked_in_place_of_a_holiday_are_open_at_the_hours_of_the_week():
    calendar = make("c", document={"time_zone": "Asia/Shanghai", **OFFICE}, holidays=[{"country": "CN"}])
    # A Sunday that was worked for the National Day of 2025.
    assert calendars.check(calendar, at("2025-09-28T02:00:00Z"))["allowed"] is True
    assert calendars.check(calendar, at("2025-09-28T12:00:00Z"))["allowed"] is False
    assert calendars.check(calendar, at("2025-10-05T02:00:00Z"))["allowed"] is False
    always = make("without hours", holidays=[{"country": "CN"}])
    assert calendars.check(always, at("2025-09-27T12:00:00Z"))["allowed"] is True


# Openings


def test_openings_are_told_with_their_ends():
    rules = calendars.calendar_of([make("c", document=OFFICE).pk])
    assert calendars.openings(rules, at("2026-03-06T16:00:00Z"), 2) == [
        (at("2026-03-06T16:00:00Z"), at("2026-03-06T17:00:00Z")),
        (at("2026-03-09T09:00:00Z"), at("2026-03-09T17:00:00Z")),
    ]
    assert calendars.openings(calendars.calendar_of([make("open").pk]), NOW, 3) == [(NOW, None)]
    closed = calendars.calendar_of([make("closed", document={"blackout": [{"kind": "weekly"}]}).pk])
    assert calendars.openings(closed, NOW, 3) == []


def test_a_draft_counts_what_it_would_include():
    lunch = make("lunch", document=NOON_CLOSED)
    rules = calendars.draft(SYSTEM, {"document": OFFICE, "includes": [lunch]}, now=NOW)
    assert not rules.allows(at("2026-03-02T12:30:00Z")) and rules.allows(at("2026-03-02T13:30:00Z"))
    assert Calendar.objects.count() == 1
    assert errors(calendars.draft, SYSTEM, {"document": {"x": 1}}, now=NOW) == {"document"}


# In use


def test_a_calendar_in_use_is_not_deleted_and_says_by_whom():
    used, free = make("used"), make("free")
    make_schedule(make_task("nightly"), after=NOW, calendar=used)
    Resource.objects.create(name="warehouse", calendar=used)
    make("above", includes=[used])
    with pytest.raises(WrongState) as caught:
        calendars.delete(SYSTEM, used, now=NOW)
    assert all(name in caught.value.message for name in ("nightly", "warehouse", "above"))
    calendars.delete(SYSTEM, free, now=NOW)
    assert set(Calendar.objects.values_list("name", flat=True)) == {"used", "above"}
    with pytest.raises(NotFound):
        calendars.delete(SYSTEM, Calendar(pk=free.pk or 10**6, project=None), now=NOW)


def test_schedules_follow_a_change_also_of_what_their_calendar_includes():
    part = make("part")
    top = make("top", includes=[part])
    follows = make_schedule(after=NOW, calendar=top)
    other = make_schedule(after=NOW)
    change(part, document=NOON_CLOSED)
    follows.refresh_from_db()
    other.refresh_from_db()
    assert follows.next_fire_at == at("2026-03-02T12:01:00Z")
    assert follows.shown_next_at == at("2026-03-02T13:00:00Z")
    assert other.shown_next_at == other.next_fire_at == at("2026-03-02T12:01:00Z")


def test_schedules_that_a_broken_calendar_had_set_aside_fire_again_once_it_is_mended():
    calendar = make("c")
    schedule = make_schedule(after=NOW, calendar=calendar)
    calendar.document = {"nonsense": 1}
    calendar.save()
    fire(NOW + timedelta(minutes=1))
    assert Schedule.objects.get().error
    with pytest.raises(WrongState):
        calendars.check(calendar, NOW)
    calendars.update(SYSTEM, calendar, {"document": {}}, now=NOW + timedelta(minutes=2))
    assert Schedule.objects.get().error == ""
    fire(NOW + timedelta(minutes=3))
    assert fired_at(schedule) == [at("2026-03-02T12:03:00Z")]


def test_a_schedule_takes_only_shared_calendars_and_those_of_its_project():
    foreign = make("foreign", project=Project.objects.create(name="other"))
    own = make("own", project=default_project())
    task = make_task()
    assert errors(make_schedule, task, after=NOW, calendar=foreign) == {"calendar"}
    schedule = make_schedule(task, after=NOW, calendar=own)
    assert errors(schedules.update, SYSTEM, schedule, {"calendar": foreign}, now=NOW) == {"calendar"}
    assert Schedule.objects.get().calendar_id == own.pk
    assert errors(tasks.update, SYSTEM, task, {"project": foreign.project}, now=NOW) == {"project"}
    schedules.update(SYSTEM, schedule, {"calendar": None}, now=NOW)
    assert Schedule.objects.get().next_run_at is None
    tasks.update(SYSTEM, task, {"project": foreign.project}, now=NOW)


def test_another_calendar_leaves_what_is_due_to_the_dispatcher():
    schedule = make_schedule(after=NOW - timedelta(minutes=3), catch_up="all")
    schedules.update(SYSTEM, schedule, {"calendar": make("c", document=OFFICE)}, now=NOW)
    fire(NOW)
    assert len(fired_at(schedule)) == 3
