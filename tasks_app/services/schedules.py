"""Schedules: create, change, delete, preview."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.roles import Verb, require
from tasks_app import catch_up, cron, ledger
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.models import Schedule, Task
from tasks_app.models.schedule import ScheduleKind
from tasks_app.queries import get_visible
from tasks_app.timing import Timing
from tasks_app.wakeup import nudge

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
FIELDS = (*RULE_FIELDS, "catch_up", "catch_up_window_seconds", "max_catch_up", "note")
LONGEST_SECONDS = 10 * 366 * 24 * 3600
MOST_TO_CATCH_UP = 10_000


def create(actor: Actor, task: Task, fields: dict[str, Any], *, now: datetime) -> Schedule:
    """Add a schedule to the task. `fields` are those of FIELDS. Raises InvalidInput at the field that is wrong, and
    NotFound when the task was deleted meanwhile."""
    require(actor, Verb.EDIT, task.project_id)
    schedule = _fresh(task, now)
    _assign(schedule, fields)
    _arm(schedule, now)
    with transaction.atomic():
        _touch(task)
        schedule.save()
        audit.append(actor, "create", schedule, now=now, after=describe_fields(schedule))
        nudge()
    return schedule


def update(actor: Actor, schedule: Schedule, fields: dict[str, Any], *, now: datetime) -> Schedule:
    """Change some fields. Where the rule changes, instants that were due before are answered by the old one first.

    Raises InvalidInput at the field that is wrong, NotFound when the schedule was deleted meanwhile; so does `delete`.
    """
    require(actor, Verb.EDIT, schedule.task.project_id)
    with transaction.atomic():
        schedule = _locked(schedule)
        before = describe_fields(schedule)
        # Another note or catch-up policy leaves what is due to the dispatcher: it must not cost an instant its run.
        if schedule.error or any(fields[name] != getattr(schedule, name) for name in RULE_FIELDS if name in fields):
            _close_old_rule(schedule, now)
            _assign(schedule, fields)
            _arm(schedule, now)
        else:
            _assign(schedule, fields)
        schedule.save(update_fields=[*FIELDS, "fired_until", "rule_since", "next_fire_at", "error", "updated_at"])
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
            schedule.fired_until = schedule.rule_since = now
            schedule.next_fire_at = fresh.next_after(now)
            schedule.save(update_fields=["fired_until", "rule_since", "next_fire_at", "updated_at"])


def delete(actor: Actor, schedule: Schedule, *, now: datetime) -> None:
    """Remove the schedule with its ledger; its runs stay."""
    require(actor, Verb.EDIT, schedule.task.project_id)
    with transaction.atomic():
        # A dispatcher that fires it just now comes first; its runs would else point to a schedule that is gone.
        schedule = _locked(schedule)
        audit.append(actor, "delete", schedule, now=now, before=describe_fields(schedule))
        schedule.delete()
        _touch(schedule.task)


def preview(fields: dict[str, Any], *, after: datetime, count: int, hash_key: str = "") -> dict[str, Any]:
    """The next `count` fires of a schedule that need not exist: the rule object that fires also answers here.

    Returns {"fires": [{"at", "local", "badges"}], "expanded"}. Raises InvalidInput.
    """
    schedule = _fresh(Task(name=hash_key), after)
    _assign(schedule, fields)
    timing = timing_of(schedule)
    zone = cron.zone(schedule.time_zone)
    fires = [
        {"at": fire, "local": fire.astimezone(zone).isoformat(), "badges": _badges(timing, fire)}
        for fire in timing.upcoming(after, count)
    ]
    return {"fires": fires, "expanded": expanded(timing)}


def timing_of(schedule: Schedule) -> Timing:
    """The rule object of a schedule. Raises cron.CronError when its expression or zone is wrong."""
    return Timing(
        kind=schedule.kind,
        cron=cron.parse(schedule.expression, hash_key=schedule.task.name) if schedule.kind == "cron" else None,
        time_zone=schedule.time_zone,
        gap=schedule.dst_gap,  # type: ignore[arg-type]  # the choices of the column are the literals
        repeat=schedule.dst_repeat,  # type: ignore[arg-type]
        interval=timedelta(seconds=schedule.interval_seconds) if schedule.interval_seconds else None,
        anchor=(schedule.start_at or _EPOCH) if schedule.kind == "interval" else None,
        at=schedule.at if schedule.kind == "once" else None,
        start_at=schedule.start_at,
        end_at=schedule.end_at,
    )


_EPOCH = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


def expanded(timing: Timing) -> str:
    """The rule in words, the same for every spelling of it."""
    if timing.kind == "cron":
        assert timing.cron is not None
        return cron.describe(timing.cron, timing.time_zone)
    if timing.kind == "interval":
        assert timing.interval is not None
        return _("every %(n)d s") % {"n": timing.interval.total_seconds()}
    return _("once at %(at)s") % {"at": timing.at.isoformat() if timing.at else "?"}


def describe_fields(schedule: Schedule) -> dict[str, Any]:
    values = {name: getattr(schedule, name) for name in FIELDS}
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


def _assign(schedule: Schedule, fields: dict[str, Any]) -> None:
    for name in FIELDS:
        if name in fields:
            setattr(schedule, name, fields[name])
    kind = schedule.kind
    schedule.expression = " ".join(schedule.expression.split(" ")).strip() if kind == "cron" else ""
    _check_fields(schedule)
    if kind == "cron" and not schedule.expression:
        raise InvalidInput(expression=_("Give a cron expression, such as 0 2 * * *."))
    if kind == ScheduleKind.INTERVAL and not schedule.interval_seconds:
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


def _check_fields(schedule: Schedule) -> None:
    # Expression and zone have sentences of their own, which say more than the column's.
    try:
        schedule.clean_fields(exclude=["task", "expression", "time_zone"])
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error
    for name in ("interval_seconds", "catch_up_window_seconds"):
        if (getattr(schedule, name) or 0) > LONGEST_SECONDS:
            raise InvalidInput(**{name: _("This may be at most ten years.")})
    if not 1 <= schedule.max_catch_up <= MOST_TO_CATCH_UP:
        raise InvalidInput(max_catch_up=_("Give a number from 1 to %(most)d.") % {"most": MOST_TO_CATCH_UP})
    for name in ("at", "start_at", "end_at"):
        moment = getattr(schedule, name)
        if moment is not None and not 1970 <= moment.year <= 9000:
            raise InvalidInput(**{name: _("The year must lie between 1970 and 9000.")})
    if "\x00" in schedule.note:
        raise InvalidInput(note=_("This must not contain a NUL character."))


def _arm(schedule: Schedule, now: datetime) -> None:
    schedule.fired_until = schedule.rule_since = now
    schedule.error = ""
    schedule.next_fire_at = timing_of(schedule).next_after(now)
    if schedule.enabled and schedule.next_fire_at is None:
        name = {"once": "at"}.get(schedule.kind, "end_at")
        raise InvalidInput(**{name: _("With this value the schedule can never fire again.")})


def _close_old_rule(schedule: Schedule, now: datetime) -> None:
    if not schedule.enabled or schedule.next_fire_at is None or schedule.next_fire_at > now:
        return
    try:
        timing = timing_of(schedule)
    except cron.CronError:
        return  # a rule that cannot be read has no instants to answer
    skipped = catch_up.skip_all(timing, after=schedule.fired_until, now=now, answer="skipped", reason="edited")
    ledger.record([(schedule.pk, stretch) for stretch in skipped.stretches])


def _badges(timing: Timing, fire: datetime) -> list[str]:
    if timing.kind != "cron" or timing.cron is None:
        return []
    return cron.badges(timing.cron, timing.time_zone, fire, gap=timing.gap, repeat=timing.repeat)
