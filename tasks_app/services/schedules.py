"""Schedules: create, change, delete, preview."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.roles import Verb, require
from access_app.second_person import held
from tasks_app import calendar_rows, catch_up, cron, ledger
from tasks_app.allowance import Fire, latest_start, outlook
from tasks_app.calendar_documents import CalendarError
from tasks_app.calendar_rows import Found
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.models import Schedule, Task
from tasks_app.models.schedule import ScheduleKind
from tasks_app.queries import calendars_visible_to, get_visible
from tasks_app.services import places
from tasks_app.services.schedule_rules import (
    ENGINE_FIELDS,
    FIELDS,
    MOVING_FIELDS,
    RULE_FIELDS,
    allowance_of,
    arm,
    assign,
    check_calendar,
    set_next_run,
    timing_of,
)
from tasks_app.services.tags import check_tag, etag
from tasks_app.timing import Timing
from tasks_app.wakeup import nudge

__all__ = [
    "FIELDS",
    "check_new_project",
    "create",
    "delete",
    "etag",
    "expanded",
    "preview",
    "shown_fires",
    "timing_of",
    "update",
]

_TICK = timedelta(microseconds=1)


@held(Kind.EDIT, "schedules.create", places.of_task)
def create(actor: Actor, task: Task, fields: dict[str, Any], *, now: datetime) -> Schedule:
    """Add a schedule to the task. `fields` are those of FIELDS. Raises InvalidInput at the field that is wrong, and
    NotFound when the task was deleted meanwhile."""
    require(actor, Verb.EDIT, task.project_id)
    schedule = _fresh(task, now)
    assign(schedule, fields)
    with transaction.atomic():
        _take_calendar(actor, schedule)
        arm(schedule, now)
        _touch(task)
        schedule.save()
        audit.append(actor, "create", schedule, now=now, after=describe_fields(schedule))
        nudge()
    return schedule


@held(Kind.EDIT, "schedules.update", places.of_schedule, tag=etag)
def update(
    actor: Actor, schedule: Schedule, fields: dict[str, Any], *, now: datetime, expected: str | None = None
) -> Schedule:
    """Change some fields. Where the rule changes, instants that were due before are answered by the old one first.

    `expected` is the ETag that the editor saw. Raises StaleEdit when the schedule has changed since, InvalidInput at
    the field that is wrong, NotFound when the schedule was deleted meanwhile; so does `delete`.
    """
    require(actor, Verb.EDIT, schedule.task.project_id)
    with transaction.atomic():
        schedule = _locked(schedule)
        check_tag(schedule, expected)
        before = describe_fields(schedule)
        # Another note or catch-up policy leaves what is due to the dispatcher: it must not cost an instant its run.
        if schedule.error or _differs(schedule, fields, RULE_FIELDS):
            _close_old_rule(schedule, now)
            assign(schedule, fields)
            _take_calendar(actor, schedule)
            arm(schedule, now)
        else:
            moved = _differs(schedule, fields, MOVING_FIELDS)
            assign(schedule, fields)
            if moved:
                _take_calendar(actor, schedule)
                set_next_run(schedule, now)
        schedule.save(update_fields=[*FIELDS, *ENGINE_FIELDS])
        _touch(schedule.task)
        old, new = audit.changes(before, describe_fields(schedule))
        audit.append(actor, "update", schedule, now=now, before=old, after=new)
        nudge()
    return schedule


def follow_new_name(task: Task, *, now: datetime) -> None:
    """Before a task with a new name is saved: arm its schedules anew where `H`, which hangs on the name, moves."""
    for schedule in Schedule.objects.filter(task=task, error="").select_related("task"):
        old_timing = timing_of(schedule)
        schedule.task, old_task = task, schedule.task
        fresh = timing_of(schedule)
        if fresh != old_timing:
            schedule.task = old_task
            _close_old_rule(schedule, now)
            schedule.task = task
            arm(schedule, now)
            schedule.save(update_fields=ENGINE_FIELDS)


def check_new_project(task: Task) -> None:
    """Before a task in another project is saved. Raises InvalidInput where a schedule of it may not take its calendar
    there."""
    for schedule in Schedule.objects.filter(task=task, calendar__isnull=False).select_related("calendar"):
        try:
            check_calendar(schedule.calendar, task.project_id)
        except InvalidInput as error:
            why = _("The calendar %(name)s of its schedule belongs to the old project.")
            raise InvalidInput(project=why % {"name": str(schedule.calendar)}) from error


@held(Kind.EDIT, "schedules.delete", places.of_schedule, tag=etag)
def delete(actor: Actor, schedule: Schedule, *, now: datetime, expected: str | None = None) -> None:
    """Remove the schedule with its ledger; its runs stay."""
    require(actor, Verb.EDIT, schedule.task.project_id)
    with transaction.atomic():
        # A dispatcher that fires it just now comes first; its runs would else point to a schedule that is gone.
        schedule = _locked(schedule)
        check_tag(schedule, expected)
        audit.append(actor, "delete", schedule, now=now, before=describe_fields(schedule))
        schedule.delete()
        _touch(schedule.task)


def preview(
    fields: dict[str, Any], *, after: datetime, count: int, hash_key: str = "", project_id: int | None = None
) -> dict[str, Any]:
    """The next `count` fires of a schedule that need not exist: the rule object that fires also answers here.

    Returns {"fires": [{"at", "local", "badges"}], "looked_until", "expanded"}; where a calendar moves a fire it has
    "nominal_at" too, and with jitter "latest_at", before which its run is due. Where fewer fires are in sight,
    "looked_until" says before when there is no other. `project_id` is that of its task. Raises InvalidInput.
    """
    schedule = _fresh(Task(name=hash_key), after)
    assign(schedule, fields)
    if project_id is not None:
        check_calendar(schedule.calendar, project_id)
    if schedule.kind == ScheduleKind.FIXED_DELAY:
        schedule.next_fire_at = max(after, schedule.start_at or after)
        after -= _TICK
    try:
        fires, looked_until = _shown(schedule, after, count)
    except CalendarError as error:
        raise InvalidInput(calendar=error.message) from error
    return {"fires": fires, "looked_until": looked_until, "expanded": expanded(timing_of(schedule))}


def shown_fires(schedules: Sequence[Schedule], *, now: datetime, count: int) -> list[tuple[Schedule, dict[str, Any]]]:
    """The next `count` fires of those schedules that are enabled and sound, soonest first, as `preview` shows them."""
    calendars = calendar_rows.load(schedule.calendar_id for schedule in schedules)
    fires: list[tuple[Schedule, dict[str, Any]]] = []
    for schedule in schedules:
        if schedule.enabled and not schedule.error:
            with suppress(cron.CronError, CalendarError):
                shown, _looked_until = _shown(schedule, now, count, calendars)
                fires += [(schedule, fire) for fire in shown]
    return sorted(fires, key=lambda fire: (fire[1]["at"], fire[0].pk))[:count]


def _shown(
    schedule: Schedule, after: datetime, count: int, found: Found | None = None
) -> tuple[list[dict[str, Any]], datetime | None]:
    """The next fires, and before when there is no other. `found` holds the calendars of several schedules."""
    timing, rule = timing_of(schedule), allowance_of(schedule, found)
    zone, jitter = cron.zone(schedule.time_zone), timedelta(seconds=schedule.jitter_seconds)
    coming = outlook(timing, rule, after, count)
    fires: list[dict[str, Any]] = []
    for fire in coming.fires:
        local = fire.due_at.astimezone(zone).isoformat()
        fires.append({"at": fire.due_at, "local": local, "badges": _badges(timing, fire)})
        if fire.due_at != fire.nominal_at:
            fires[-1]["nominal_at"] = fire.nominal_at
        if jitter:
            limit = latest_start(timing, rule, fire)
            fires[-1]["latest_at"] = min(fire.due_at + jitter, limit or fire.due_at + jitter)
    return fires, coming.looked_until


def expanded(timing: Timing) -> str:
    """The rule in words, the same for every spelling of it."""
    if timing.kind == "cron":
        assert timing.cron is not None
        return cron.describe(timing.cron, timing.time_zone)
    if timing.kind == "interval":
        assert timing.interval is not None
        return _("every %(n)d s") % {"n": timing.interval.total_seconds()}
    if timing.kind == "fixed_delay":
        assert timing.interval is not None
        return _("%(n)d s after each end") % {"n": timing.interval.total_seconds()}
    return _("once at %(at)s") % {"at": timing.at.isoformat() if timing.at else "?"}


def describe_fields(schedule: Schedule) -> dict[str, Any]:
    values = {name: getattr(schedule, name) for name in FIELDS} | {"calendar": schedule.calendar_id}
    return {n: v.isoformat() if isinstance(v, datetime) else v for n, v in values.items()}


def _locked(schedule: Schedule) -> Schedule:
    rows = Schedule.objects.select_for_update(of=("self",)).select_related("task")
    return get_visible(rows, schedule.pk)


def _touch(task: Task) -> None:
    """Change the entity tag of the task, which answers its schedules, too. After their locks: see _lock_schedules."""
    task.updated_at = timezone.now()
    if not Task.objects.filter(pk=task.pk).update(updated_at=task.updated_at):
        raise NotFound


def _fresh(task: Task, now: datetime) -> Schedule:
    """A schedule that nobody has said anything of yet: in the installation's time zone."""
    return Schedule(task=task, fired_until=now, time_zone=settings.SCHEDULER_TIME_ZONE)


def _differs(schedule: Schedule, fields: dict[str, Any], names: Iterable[str]) -> bool:
    return any(fields[name] != getattr(schedule, name) for name in names if name in fields)


def _take_calendar(actor: Actor, schedule: Schedule) -> None:
    """Keep the calendar from being deleted until this is saved. Raises InvalidInput where it may not be used."""
    if schedule.calendar_id is None:
        return
    rows = calendars_visible_to(actor).select_for_update(of=("self",), no_key=True)
    schedule.calendar = rows.filter(pk=schedule.calendar_id).first()
    if schedule.calendar is None:
        raise InvalidInput(calendar=_("There is no such calendar."))
    check_calendar(schedule.calendar, schedule.task.project_id)


def _close_old_rule(schedule: Schedule, now: datetime) -> None:
    if not schedule.enabled or schedule.next_fire_at is None or schedule.next_fire_at > now:
        return
    try:
        timing = timing_of(schedule)
    except cron.CronError:
        return  # a rule that cannot be read has no instants to answer
    skipped = catch_up.skip_all(timing, after=schedule.fired_until, now=now, answer="skipped", reason="edited")
    ledger.record([(schedule.pk, stretch) for stretch in skipped.stretches])


def _badges(timing: Timing, fire: Fire) -> list[str]:
    moved = ["calendar"] if fire.due_at != fire.nominal_at else []
    if timing.cron is None:
        return moved
    return moved or cron.badges(timing.cron, timing.time_zone, fire.due_at, gap=timing.gap, repeat=timing.repeat)
