"""Schedules: what is refused at which field, and what an edit does to instants that are due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from access_app.actors import system_actor
from access_app.models import AuditEntry
from dispatcher_app.firing import fire_due
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.models import LedgerEntry, Run, Schedule
from tasks_app.services import schedules
from tests.tasks_app.clock import at
from tests.tasks_app.making import ACTOR, NOW, later, make_schedule, make_task

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()
MINUTELY = {"expression": "* * * * *"}


def errors(call: Any, *arguments: Any, **options: Any) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        call(*arguments, **options)
    return set(caught.value.errors)


WRONG = [
    ({"kind": "weekly"}, "kind"),
    ({"expression": ""}, "expression"),
    ({"expression": "61 * * * *"}, "expression"),
    ({"expression": "* " * 200}, "expression"),
    ({"expression": "0 0 30 2 *"}, "expression"),
    ({"expression": "* * * * *", "time_zone": "Mars/Olympus"}, "time_zone"),
    ({"expression": "* * * * *", "dst_gap": "jump"}, "dst_gap"),
    ({"expression": "* * * * *", "dst_repeat": "thrice"}, "dst_repeat"),
    ({"expression": "* * * * *", "catch_up": "some"}, "catch_up"),
    ({"expression": "* * * * *", "catch_up_window_seconds": -1}, "catch_up_window_seconds"),
    ({"expression": "* * * * *", "catch_up_window_seconds": 2**62}, "catch_up_window_seconds"),
    ({"expression": "* * * * *", "max_catch_up": -1}, "max_catch_up"),
    ({"expression": "* * * * *", "max_catch_up": 0}, "max_catch_up"),
    ({"expression": "* * * * *", "max_catch_up": 10_001}, "max_catch_up"),
    ({"expression": "* * * * *", "note": "x" * 501}, "note"),
    ({"expression": "* * * * *", "note": "a\x00b"}, "note"),
    ({"expression": "* * * * *", "start_at": later(days=2), "end_at": later(days=1)}, "end_at"),
    ({"expression": "* * * * *", "end_at": later(days=-1)}, "end_at"),
    ({"expression": "* * * * *", "start_at": at("0001-01-01T00:00:00Z")}, "start_at"),
    ({"kind": "interval"}, "interval_seconds"),
    ({"kind": "interval", "interval_seconds": 0}, "interval_seconds"),
    ({"kind": "interval", "interval_seconds": -5}, "interval_seconds"),
    ({"kind": "interval", "interval_seconds": 2**62}, "interval_seconds"),
    ({"kind": "once"}, "at"),
    ({"kind": "once", "at": later(seconds=-1)}, "at"),
    ({"kind": "once", "at": at("9999-12-31T23:59:59Z")}, "at"),
]


@pytest.mark.parametrize(("fields", "field"), WRONG)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_written(fields, field):
    task = make_task()
    assert errors(schedules.create, SYSTEM, task, fields, now=NOW) == {field}
    assert not Schedule.objects.exists() and not AuditEntry.objects.exists()


@pytest.mark.parametrize(("fields", "field"), [entry for entry in WRONG if entry[0] != {"kind": "interval"}])
def test_a_refused_edit_leaves_the_schedule_as_it_was(fields, field):
    schedule = make_schedule(after=NOW, note="mine")
    before = Schedule.objects.values().get()
    assert errors(schedules.update, SYSTEM, schedule, fields, now=NOW) == {field}
    assert Schedule.objects.values().get() == before


def test_a_schedule_is_armed_when_it_is_made():
    schedule = make_schedule(after=NOW)
    assert (schedule.fired_until, schedule.next_fire_at) == (NOW, at("2026-03-02T12:01:00Z"))
    assert make_schedule(
        after=NOW, kind="interval", interval_seconds=3600, start_at=later(hours=5)
    ).next_fire_at == later(hours=5)


# Edits


def overdue(**fields: Any) -> Schedule:
    """A schedule that was due three times while no dispatcher lived."""
    return make_schedule(after=later(minutes=-3), **{"catch_up": "all", **fields})


def fire() -> int:
    return fire_due(NOW, actor=ACTOR).runs


@pytest.mark.parametrize(
    "change",
    [{"note": "new"}, {"catch_up": "last"}, {"max_catch_up": 50}, {"expression": "* * * * *"}, {"enabled": True}],
)
def test_an_edit_that_leaves_the_rule_loses_no_instant(change):
    schedule = overdue()
    schedules.update(SYSTEM, schedule, change, now=NOW)
    assert not LedgerEntry.objects.exists()
    assert fire() == (1 if change.get("catch_up") == "last" else 3)


@pytest.mark.parametrize(
    "change",
    [{"expression": "0 * * * *"}, {"time_zone": "Asia/Kathmandu"}, {"kind": "interval", "interval_seconds": 7}],
)
def test_an_edit_of_the_rule_answers_what_was_due_by_the_old_one(change):
    schedule = overdue()
    schedules.update(SYSTEM, schedule, change, now=NOW)
    entry = LedgerEntry.objects.get()
    assert (entry.count, entry.answer, entry.reason) == (3, "skipped", "edited")
    fresh = Schedule.objects.get()
    assert fresh.fired_until == NOW and fresh.next_fire_at is not None and fresh.next_fire_at > NOW
    assert fire() == 0
    assert AuditEntry.objects.get(verb="update").after == change | (
        {"expression": ""} if change.get("kind") == "interval" else {}
    )


def test_a_schedule_that_was_off_fires_from_when_it_is_on_again():
    schedule = make_schedule(after=later(days=-1), enabled=False)
    schedules.update(SYSTEM, schedule, {"enabled": True}, now=NOW)
    assert fire() == 0
    assert not LedgerEntry.objects.exists()
    assert Schedule.objects.get().next_fire_at == at("2026-03-02T12:01:00Z")


def test_a_broken_schedule_fires_again_once_it_is_mended():
    schedule = overdue()
    Schedule.objects.update(expression="broken")
    fire()
    assert Schedule.objects.get().error
    schedule = schedules.update(SYSTEM, Schedule.objects.get(), {"expression": "* * * * *"}, now=NOW)
    assert (schedule.error, schedule.next_fire_at) == ("", at("2026-03-02T12:01:00Z"))


def test_a_schedule_that_is_broken_but_not_set_aside_yet_can_be_mended():
    overdue()
    Schedule.objects.update(expression="broken")
    schedules.update(SYSTEM, Schedule.objects.get(), {"expression": "0 * * * *"}, now=NOW)
    assert Schedule.objects.get().error == ""


def test_the_note_of_a_schedule_that_is_over_can_be_changed():
    schedule = make_schedule(after=later(hours=-1), kind="once", at=later(minutes=-1))
    assert fire() == 1
    schedules.update(SYSTEM, Schedule.objects.get(pk=schedule.pk), {"note": "done"}, now=NOW)
    assert Schedule.objects.get().note == "done"
    assert fire() == 0


def test_a_deleted_schedule_leaves_its_runs():
    schedule, other = overdue(), overdue()
    assert fire() == 6
    schedules.delete(SYSTEM, schedule, now=NOW)
    assert Run.objects.filter(schedule=None).count() == Run.objects.filter(schedule=other).count() == 3


# Previews


@pytest.mark.parametrize(
    "fields",
    [
        {"expression": "30 2 * * *", "time_zone": "Europe/Berlin"},
        {"expression": "H/20 * * * *"},
        {"kind": "interval", "interval_seconds": 5400, "start_at": at("2026-03-28T00:10:00Z")},
        {"kind": "once", "at": at("2026-03-29T09:00:00Z")},
    ],
)
def test_a_preview_names_the_instants_at_which_it_then_fires(fields):
    after = at("2026-03-28T00:00:00Z")
    task = make_task("previewed")
    shown = schedules.preview(fields, after=after, count=3, hash_key=task.name)
    schedule = make_schedule(task, after=after, catch_up="all", catch_up_window_seconds=30 * 86_400, **fields)
    fire_due(shown["fires"][-1]["at"] + timedelta(seconds=1), actor=ACTOR)
    fired = Run.objects.filter(schedule=schedule).order_by("nominal_at").values_list("nominal_at", flat=True)
    assert [fire["at"] for fire in shown["fires"]] == list(fired)
    assert shown["expanded"]


def test_a_preview_of_a_day_with_a_clock_change_says_so():
    fields = {"expression": "30 2 * * *", "time_zone": "Europe/Berlin"}
    shown = schedules.preview(fields, after=at("2026-03-28T12:00:00Z"), count=1)
    assert shown["fires"] == [
        {"at": at("2026-03-29T01:00:00Z"), "local": "2026-03-29T03:00:00+02:00", "badges": ["dst_gap"]}
    ]
    assert errors(schedules.preview, {"expression": "x"}, after=NOW, count=1) == {"expression"}


@pytest.mark.parametrize("verb", [schedules.update, schedules.delete])
def test_a_schedule_that_was_deleted_meanwhile_is_not_found(verb):
    held = make_schedule(after=NOW)
    schedules.delete(SYSTEM, Schedule.objects.select_related("task").get(), now=NOW)
    before = AuditEntry.objects.count()
    with pytest.raises(NotFound):
        verb(SYSTEM, held, *([{"note": "x"}] if verb is schedules.update else []), now=NOW)
    assert AuditEntry.objects.count() == before
