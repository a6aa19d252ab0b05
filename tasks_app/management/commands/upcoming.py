"""manage.py upcoming: the next fires over all schedules, or over those of one task."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor, iso
from tasks_app import calendar_rows
from tasks_app.allowance import fires
from tasks_app.calendar_rows import Found
from tasks_app.cron import zone
from tasks_app.errors import InvalidInput
from tasks_app.management.door import add_json_argument, add_project_argument, find_project, find_task
from tasks_app.models import Schedule, Task
from tasks_app.queries import schedules_visible_to, tasks_visible_to
from tasks_app.services.schedule_rules import allowance_of, timing_of

MOST = 10_000


class Command(SchedulerCommand):
    help = _("Show what fires next, soonest first. Paused tasks and disabled schedules do not fire.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--count", type=int, default=10, metavar="N", help=_("how many fires (default: 10)"))
        parser.add_argument("--task", metavar="NAME", help=_("only of this task"))
        add_project_argument(parser, _("only of the tasks of this project"))
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["count"] <= MOST:
            raise InvalidInput(count=_("Give a number from 1 to %(most)d.") % {"most": MOST})
        actor = command_actor()
        tasks = tasks_visible_to(actor)
        if options["task"] is not None:
            task = find_task(actor, options["task"], options["project"])
            tasks = tasks.filter(pk=task.pk)
            if task.paused:
                self.stderr.write(_("The task %(name)s is paused.") % {"name": task.name})
        elif options["project"] is not None:
            tasks = tasks.filter(project=find_project(options["project"]))
        schedules = schedules_visible_to(actor).select_related("task__project")
        found = next_fires(schedules, tasks, now=timezone.now(), count=options["count"])
        if options["json"]:
            self.print_json({"fires": [_values(at, schedule) for at, schedule in found]})
            return
        for at, schedule in found:
            self.stdout.write(_line(at, schedule))
        if not found:
            self.stderr.write(_("Nothing is going to fire."))


def next_fires(
    schedules: QuerySet[Schedule], tasks: QuerySet[Task], *, now: datetime, count: int
) -> list[tuple[datetime, Schedule]]:
    """The next `count` fires after `now` of these schedules of these tasks, soonest first."""
    active = schedules.filter(task__in=tasks, task__paused=False, enabled=True)
    # Only the first `count` can come up; those that are due already have not been fired yet and come up again later.
    coming = [
        *active.filter(calendar=None, next_fire_at__gt=now).order_by("next_fire_at", "pk")[:count],
        *active.filter(next_run_at__isnull=False, next_fire_at__gt=now).order_by("next_run_at", "pk")[:count],
        *active.filter(next_fire_at__lte=now).order_by("next_fire_at", "pk"),
    ]
    calendars = calendar_rows.load(schedule.calendar_id for schedule in coming)
    of_each = (_fires_of(schedule, calendars, now) for schedule in coming)
    merged = heapq.merge(*of_each, key=lambda fire: (fire[0], fire[1].pk))
    return [fire for fire, _place in zip(merged, range(count), strict=False)]


def _fires_of(schedule: Schedule, calendars: Found, now: datetime) -> Iterator[tuple[datetime, Schedule]]:
    for fire in fires(timing_of(schedule), allowance_of(schedule, calendars), now):
        yield fire.due_at, schedule


def _values(at: datetime, schedule: Schedule) -> dict[str, Any]:
    return {
        "at": iso(at),
        "local": at.astimezone(zone(schedule.time_zone)).isoformat(),
        "time_zone": schedule.time_zone,
        "task": schedule.task_id,
        "task_name": schedule.task.name,
        "project": schedule.task.project.name,
        "schedule": schedule.pk,
        "expression": str(schedule),
    }


def _line(at: datetime, schedule: Schedule) -> str:
    local = at.astimezone(zone(schedule.time_zone))
    task = schedule.task
    return f"{local:%Y-%m-%d %H:%M:%S} {schedule.time_zone:<20} {task.project.name}/{task.name}  ({schedule})"
