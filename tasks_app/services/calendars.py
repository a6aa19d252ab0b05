"""Calendars: create, change, delete, ask. One without a project is shared by all projects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.roles import Verb, require, require_everywhere
from tasks_app import calendar_documents, calendar_rows, calendars
from tasks_app.calendar_documents import CalendarError
from tasks_app.calendar_rows import calendar_of
from tasks_app.dependencies import cycle_path
from tasks_app.errors import InvalidInput, WrongState
from tasks_app.models import Calendar, Resource, Schedule
from tasks_app.queries import calendars_visible_to, get_visible
from tasks_app.services.holidays import holiday_rules
from tasks_app.services.schedule_rules import ENGINE_FIELDS, arm, set_next_run
from tasks_app.wakeup import nudge

__all__ = [
    "COLUMNS",
    "FIELDS",
    "calendar_of",
    "check",
    "create",
    "delete",
    "describe",
    "draft",
    "openings",
    "rules_of",
    "update",
]

COLUMNS = ("name", "description", "document", "holidays")
# `includes` are other calendars, as rows.
FIELDS = (*COLUMNS, "includes")
MOST_INCLUDED = 20
LARGEST_DOCUMENT = 256 * 1024
MOST_NAMED = 3
_LOOK_AHEAD = timedelta(days=400)


def create(actor: Actor, fields: dict[str, Any], *, now: datetime) -> Calendar:
    """Create a calendar from FIELDS and `project` (None or left out: shared by all projects).

    Raises InvalidInput at the field that is wrong, NotFound or PermissionRefused for the project.
    """
    calendar = Calendar(project=fields.get("project"))
    _require(actor, calendar)
    _assign(calendar, fields, now)
    with transaction.atomic():
        _save(calendar)
        _set_includes(actor, calendar, fields)
        audit.append(actor, "create", calendar, now=now, after=describe(calendar))
    return calendar


def update(actor: Actor, calendar: Calendar, fields: dict[str, Any], *, now: datetime) -> Calendar:
    """Change some of FIELDS; the schedules that use it, also by way of other calendars, follow at once.

    Public holidays are worked out anew. Raises InvalidInput at the field that is wrong, NotFound when the calendar was
    deleted meanwhile; so does `delete`.
    """
    _require(actor, calendar)
    with transaction.atomic():
        # In the order in which an edit of a schedule comes to both.
        users = Schedule.objects.filter(calendar__in=calendar_rows.including([calendar.pk])).order_by("pk")
        list(users.select_for_update(of=("self",)).values_list("pk"))
        rows = Calendar.objects.select_for_update(of=("self",), no_key=True).select_related("project")
        calendar = get_visible(rows, calendar.pk)
        before = describe(calendar)
        _assign(calendar, fields, now)
        _save(calendar)
        _set_includes(actor, calendar, fields)
        _follow(calendar, now)
        old, new = audit.changes(before, describe(calendar))
        audit.append(actor, "update", calendar, now=now, before=old, after=new)
        nudge()
    return calendar


def delete(actor: Actor, calendar: Calendar, *, now: datetime) -> None:
    """Delete a calendar. Raises WrongState while a schedule, a resource or another calendar uses it."""
    _require(actor, calendar)
    with transaction.atomic():
        calendar = get_visible(Calendar.objects.select_for_update(of=("self",)), calendar.pk)
        users = _users(calendar)
        if users:
            named = ", ".join(users[:MOST_NAMED]) + (", …" if len(users) > MOST_NAMED else "")
            raise WrongState(
                _("The calendar %(name)s is in use: %(users)s. Take it away there first.")
                % {"name": calendar.name, "users": named}
            )
        audit.append(actor, "delete", calendar, now=now, before=describe(calendar))
        calendar.delete()


def rules_of(calendar: Calendar) -> calendars.Calendar:
    """The pure calendar that answers for a stored one. Raises WrongState when its rules cannot be read."""
    try:
        return calendar_of([calendar.pk])
    except CalendarError as error:
        raise WrongState(_("The rules of this calendar cannot be read: %(why)s") % {"why": str(error)}) from error


def check(calendar: Calendar, at: datetime) -> dict[str, Any]:
    """Whether the calendar, with what it includes, allows `at`: {"at", "allowed", "reason", "next_allowed"}.

    Raises WrongState when its rules cannot be read.
    """
    rules = rules_of(calendar)
    return {
        "at": at,
        "allowed": rules.allows(at),
        "reason": rules.reason(at),
        "next_allowed": rules.next_allowed(at),
    }


def openings(rules: calendars.Calendar, after: datetime, count: int) -> list[tuple[datetime, datetime | None]]:
    """The next `count` times, from `after` on, at which these rules are open: (from, until); until is None where that
    lies more than 400 days ahead."""
    found: list[tuple[datetime, datetime | None]] = []
    while len(found) < count and (start := rules.next_allowed(after)) is not None:
        end = rules.next_blocked(start, start + _LOOK_AHEAD)
        found.append((start, end))
        if end is None:
            break
        after = end
    return found


def draft(actor: Actor, fields: dict[str, Any], *, now: datetime) -> calendars.Calendar:
    """The pure calendar of FIELDS that nobody has saved, to preview it. Raises InvalidInput."""
    calendar = Calendar(project=fields.get("project"))
    _assign(calendar, {"name": "preview", **fields}, now)
    included = _visible(actor, fields.get("includes", ()))
    try:
        together = calendar_of([one.pk for one in included])
    except CalendarError as error:
        raise InvalidInput(includes=error.message) from error
    return calendars.union([calendar_rows.read(calendar.document, calendar.holiday_rules), together])


def describe(calendar: Calendar) -> dict[str, Any]:
    """The calendar as plain values."""
    values: dict[str, Any] = {name: getattr(calendar, name) for name in COLUMNS}
    values["project"] = calendar.project.name if calendar.project else None
    return values | {"includes": sorted(calendar.includes.values_list("pk", flat=True))}


def _require(actor: Actor, calendar: Calendar) -> None:
    if calendar.project_id is None:
        require_everywhere(actor, Verb.MANAGE)
    else:
        require(actor, Verb.EDIT, calendar.project_id)


def _assign(calendar: Calendar, fields: dict[str, Any], now: datetime) -> None:
    for name in COLUMNS:
        if name in fields:
            setattr(calendar, name, fields[name])
    try:
        calendar.clean_fields(exclude=["project", "document", "holidays", "holiday_rules"])
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error
    for name in ("name", "description"):
        if "\x00" in getattr(calendar, name):
            raise InvalidInput(**{name: _("This must not contain a NUL character.")})
    try:
        calendar_documents.parse(calendar.document)
    except CalendarError as error:
        raise InvalidInput(document=str(error)) from error
    if len(json.dumps(calendar.document)) > LARGEST_DOCUMENT:
        raise InvalidInput(document=_("The rules may be at most 256 KiB long."))
    calendar.holiday_rules = holiday_rules(calendar.document, calendar.holidays, now.year)


def _save(calendar: Calendar) -> None:
    try:
        with transaction.atomic():
            calendar.save()
    except IntegrityError as error:
        raise InvalidInput(name=_("A calendar of this name exists already.")) from error


def _set_includes(actor: Actor, calendar: Calendar, fields: dict[str, Any]) -> None:
    if "includes" not in fields:
        return
    # One writer of these edges at a time: two edits that are each harmless cannot close a circle.
    list(Calendar.objects.order_by("pk").select_for_update(no_key=True).values_list("pk"))
    included = _visible(actor, fields["includes"])
    for one in included:
        if one.project_id not in (None, calendar.project_id):
            raise InvalidInput(
                includes=_("%(name)s belongs to another project; include shared calendars or those of its own.")
                % {"name": one.name}
            )
    kept = Calendar.includes.through.objects.exclude(from_calendar=calendar)
    edges = [*kept.values_list("from_calendar_id", "to_calendar_id"), *((calendar.pk, one.pk) for one in included)]
    path = cycle_path(edges)
    if path is not None:
        names: dict[int, str] = dict(calendars_visible_to(actor).filter(pk__in=path).values_list("pk", "name"))
        circle = " → ".join(names.get(pk, "…") for pk in path)
        raise InvalidInput(includes=_("These calendars would include each other: %(path)s.") % {"path": circle})
    calendar.includes.set(included)


def _visible(actor: Actor, chosen: Sequence[Calendar]) -> list[Calendar]:
    """The calendars as they are now. Raises InvalidInput where one is gone, or may not be seen."""
    wanted = {calendar.pk for calendar in chosen}
    found = list(calendars_visible_to(actor).filter(pk__in=wanted))
    if len(found) < len(wanted) or len(wanted) > MOST_INCLUDED:
        raise InvalidInput(includes=_("Give at most %(most)d calendars that exist.") % {"most": MOST_INCLUDED})
    return found


def _follow(calendar: Calendar, now: datetime) -> None:
    """Let the schedules of a calendar that has changed know when they run next; those it had broken are armed again."""
    users = Schedule.objects.filter(calendar__in=calendar_rows.including([calendar.pk])).select_related("task")
    users = users.order_by("pk")
    try:
        for mended in _some(users.exclude(error="")):
            for schedule in mended:
                arm(schedule, now)
            Schedule.objects.bulk_update(mended, ENGINE_FIELDS)
        rows = list(users.filter(error="", next_fire_at__isnull=False))
        found = calendar_rows.load(schedule.calendar_id for schedule in rows)
        for some in _some(rows):
            for schedule in some:
                set_next_run(schedule, now, found)
            Schedule.objects.bulk_update(some, ["next_run_at", "looked_until"])
    except InvalidInput as error:
        texts = [text for texts in error.errors.values() for text in texts]
        raise InvalidInput(document=texts) from error


def _some(schedules: Iterable[Schedule]) -> Iterator[list[Schedule]]:
    """As many at a time as are worked out in a second or two: PostgreSQL ends a session that says nothing for long in
    the middle of its transaction."""
    rest = iter(list(schedules))
    while some := list(islice(rest, 100)):
        yield some


def _users(calendar: Calendar) -> list[str]:
    schedules = Schedule.objects.filter(calendar=calendar).select_related("task").order_by("pk")[: MOST_NAMED + 1]
    resources = Resource.objects.filter(calendar=calendar).order_by("pk")[: MOST_NAMED + 1]
    including = Calendar.objects.filter(includes=calendar).order_by("pk")[: MOST_NAMED + 1]
    return [
        *(_("a schedule of %(name)s") % {"name": schedule.task.name} for schedule in schedules),
        *(_("the resource %(name)s") % {"name": resource.name} for resource in resources),
        *(_("the calendar %(name)s") % {"name": one.name} for one in including),
    ]
