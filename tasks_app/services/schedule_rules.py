"""What may stand in a schedule, and when it fires by that: shared by the services of schedules and of calendars."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from tasks_app import calendar_rows, cron
from tasks_app.allowance import LONGEST_JITTER, Allowance, Outlook, outlook
from tasks_app.calendar_documents import CalendarError
from tasks_app.errors import InvalidInput
from tasks_app.models import Calendar, Run, Schedule
from tasks_app.models.schedule import ScheduleKind
from tasks_app.timing import Timing

RULE_FIELDS = (
    "kind",
    "expression",
    "interval_seconds",
    "at",
    "time_zone",
    "dst_gap",
    "dst_repeat",
    "start_at",
    "end_at",
    "enabled",
)
# A change of these moves what comes next, but leaves the instants themselves as they are.
MOVING_FIELDS = ("calendar", "calendar_action")
FIELDS = (
    *RULE_FIELDS,
    *MOVING_FIELDS,
    "jitter_seconds",
    "start_deadline_seconds",
    "catch_up",
    "catch_up_window_seconds",
    "max_catch_up",
    "note",
)
ENGINE_FIELDS = ("fired_until", "rule_since", "next_fire_at", "next_run_at", "looked_until", "error", "updated_at")
LONGEST_SECONDS = 10 * 366 * 24 * 3600
MOST_TO_CATCH_UP = 10_000
_EPOCH = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


def timing_of(schedule: Schedule) -> Timing:
    """The rule object of a schedule. Raises cron.CronError when its expression or zone is wrong.

    That of a fixed delay has the one instant for which it is armed, and none while its run is under way.
    """
    kind = schedule.kind
    return Timing(
        kind=kind,
        cron=cron.parse(schedule.expression, hash_key=schedule.task.name) if kind == "cron" else None,
        time_zone=schedule.time_zone,
        gap=schedule.dst_gap,  # type: ignore[arg-type]  # the choices of the column are the literals
        repeat=schedule.dst_repeat,  # type: ignore[arg-type]
        interval=timedelta(seconds=schedule.interval_seconds) if schedule.interval_seconds else None,
        anchor=(schedule.start_at or _EPOCH) if kind == "interval" else None,
        at={"once": schedule.at, "fixed_delay": schedule.next_fire_at}.get(kind),
        start_at=schedule.start_at,
        end_at=schedule.end_at,
    )


def allowance_of(schedule: Schedule, found: calendar_rows.Found | None = None) -> Allowance:
    """What its calendar makes of the instants of a schedule. Raises CalendarError when that cannot be read.

    `found` holds the calendars of several schedules, read together.
    """
    if schedule.calendar_id is None:
        return Allowance()
    calendars = found or calendar_rows.load([schedule.calendar_id])
    return Allowance(calendars.of(schedule.calendar_id), schedule.calendar_action)


def next_run(schedule: Schedule, now: datetime, found: calendar_rows.Found | None = None) -> Outlook:
    """The next fire after `now` of an armed schedule, moved by its calendar; an instant that is due already counts."""
    if schedule.next_fire_at is None:
        return Outlook([])
    after = min(now, schedule.next_fire_at - timedelta(microseconds=1))
    return outlook(timing_of(schedule), allowance_of(schedule, found), after)


def delayed(schedule: Schedule, ended: datetime | None) -> datetime | None:
    """When a schedule of a fixed delay fires after a run that ended at `ended` (None: it was deleted), or None when
    its end comes before. Always after the instants that were answered, even where a clock was set back."""
    assert schedule.interval_seconds is not None
    base = max(ended or schedule.fired_until, schedule.fired_until)
    at = max(base + timedelta(seconds=schedule.interval_seconds), schedule.start_at or base)
    return None if schedule.end_at is not None and at > schedule.end_at else at


def arm(schedule: Schedule, now: datetime) -> None:
    """Set when the schedule fires next from `now` on. Raises InvalidInput where it never would."""
    if schedule.kind == ScheduleKind.FIXED_DELAY:
        _arm_delay(schedule, now)
    else:
        schedule.next_fire_at = timing_of(schedule).next_after(now)
        if schedule.enabled and schedule.next_fire_at is None:
            name = {"once": "at"}.get(schedule.kind, "end_at")
            raise InvalidInput(**{name: _("With this value the schedule can never fire again.")})
    schedule.fired_until = schedule.rule_since = now
    if schedule.next_fire_at == now:
        # A fixed delay that fires at once: that instant is one of this rule, too.
        schedule.rule_since = now - timedelta(microseconds=1)
    schedule.error = ""
    set_next_run(schedule, now)


def set_next_run(schedule: Schedule, now: datetime, found: calendar_rows.Found | None = None) -> None:
    """Set when the schedule next really runs, where it has a calendar. Raises InvalidInput where that is broken."""
    coming = Outlook([])
    if schedule.calendar_id is not None:
        try:
            coming = next_run(schedule, now, found)
        except CalendarError as error:
            raise InvalidInput(calendar=error.message) from error
    schedule.next_run_at, schedule.looked_until = coming.due_at, coming.looked_until


def _arm_delay(schedule: Schedule, now: datetime) -> None:
    """At its start or at once; where it has run before, one delay after that; not while a run of it is under way."""
    assert schedule.interval_seconds is not None
    first = max(now, schedule.start_at or now)
    newest = Run.objects.filter(schedule=schedule.pk).order_by("-nominal_at").first() if schedule.pk else None
    if newest is not None and newest.finished_at is None:
        schedule.next_fire_at = None
        return
    if newest is not None and newest.finished_at is not None:
        ended = max(newest.finished_at, newest.nominal_at or newest.finished_at)
        first = max(first, ended + timedelta(seconds=schedule.interval_seconds))
    over = schedule.end_at is not None and first > schedule.end_at
    if over and schedule.enabled:
        raise InvalidInput(end_at=_("With this value the schedule can never fire again."))
    schedule.next_fire_at = None if over else first


def assign(schedule: Schedule, fields: dict[str, Any]) -> None:
    """Set the FIELDS that are given. Raises InvalidInput at the first that is wrong."""
    for name in FIELDS:
        if name in fields:
            setattr(schedule, name, fields[name])
    kind = schedule.kind
    schedule.expression = " ".join(schedule.expression.split(" ")).strip() if kind == "cron" else ""
    _check_fields(schedule)
    if kind == "cron" and not schedule.expression:
        raise InvalidInput(expression=_("Give a cron expression, such as 0 2 * * *."))
    if kind in (ScheduleKind.INTERVAL, ScheduleKind.FIXED_DELAY) and not schedule.interval_seconds:
        raise InvalidInput(interval_seconds=_("Give the interval in whole seconds, 1 or more."))
    if kind == ScheduleKind.ONCE and schedule.at is None:
        raise InvalidInput(at=_("Give the time at which it fires."))
    if schedule.start_at and schedule.end_at and schedule.end_at <= schedule.start_at:
        raise InvalidInput(end_at=_("The end must lie after the start."))
    try:
        cron.zone(schedule.time_zone)
    except cron.CronError as error:
        raise InvalidInput(time_zone=error.message) from error
    if kind == "cron":
        try:
            cron.parse(schedule.expression, hash_key=schedule.task.name)
        except cron.CronError as error:
            raise InvalidInput(expression=error.message) from error


def check_calendar(calendar: Calendar | None, project_id: int | None) -> None:
    """Raise InvalidInput unless a schedule in that project may use the calendar: a shared one, or one of its own."""
    if calendar is not None and calendar.project_id not in (None, project_id):
        raise InvalidInput(
            calendar=_("The calendar belongs to another project; choose a shared one or one of its own.")
        )


def _check_fields(schedule: Schedule) -> None:
    # Expression and zone have sentences of their own, which say more than the column's.
    try:
        schedule.clean_fields(exclude=["task", "calendar", "expression", "time_zone"])
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error
    for name in ("interval_seconds", "catch_up_window_seconds", "start_deadline_seconds"):
        if (getattr(schedule, name) or 0) > LONGEST_SECONDS:
            raise InvalidInput(**{name: _("This may be at most ten years.")})
    if timedelta(seconds=schedule.jitter_seconds) > LONGEST_JITTER:
        raise InvalidInput(jitter_seconds=_("This may be at most 31 days."))
    if not 1 <= schedule.max_catch_up <= MOST_TO_CATCH_UP:
        raise InvalidInput(max_catch_up=_("Give a number from 1 to %(most)d.") % {"most": MOST_TO_CATCH_UP})
    for name in ("at", "start_at", "end_at"):
        moment = getattr(schedule, name)
        if moment is not None and not 1970 <= moment.year <= 9000:
            raise InvalidInput(**{name: _("The year must lie between 1970 and 9000.")})
    if "\x00" in schedule.note:
        raise InvalidInput(note=_("This must not contain a NUL character."))
