"""manage.py fires TASK --day D: what became of each instant of a day, and that they add up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor, iso
from tasks_app import fires
from tasks_app.api.fires import fire_values
from tasks_app.cron import zone
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.fire_answers import Answer
from tasks_app.fire_counts import Summary, Tally, day_of, summary
from tasks_app.fire_words import answer_words, equation, terms
from tasks_app.fires import Fire, Scope
from tasks_app.management.door import add_json_argument, add_task_arguments, find_task
from tasks_app.models import Task

PAGE = 5000


class Command(SchedulerCommand):
    help = _("Show what became of each instant of a task on one day: runs in numbers, everything else one by one.")

    def add_arguments(self, parser: CommandParser) -> None:
        add_task_arguments(parser)
        parser.add_argument("--day", metavar="D", help=_("such as 2026-03-01 (default: today)"))
        parser.add_argument("--schedule", type=int, metavar="ID", help=_("only this schedule of the task"))
        parser.add_argument("--answer", choices=[answer.value for answer in Answer], help=_("list only this answer"))
        parser.add_argument("--all", action="store_true", help=_("list what ran, too"))
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        task = find_task(command_actor(), options["name"], options["project"])
        scope = _scope(task, options["schedule"])
        time_zone = scope.rules[0].schedule.time_zone if scope.rules else settings.SCHEDULER_TIME_ZONE
        day = _day(options["day"], time_zone, now)
        found = summary(scope, day, time_zone, now=now)
        everything = options["all"] or options["json"]
        chosen = {options["answer"]} if options["answer"] else set(Answer) if everything else set(Answer) - {Answer.RUN}
        listed = _listed(scope, found, chosen, now)
        if options["json"]:
            self.print_json(_values(task, day, time_zone, found, list(listed)))
            return
        self.stdout.write(f"{day} {time_zone}: {equation(found)}")
        for fire in [*found.stretches, *(listed if found.expected else ())]:
            self.stdout.write(_line(fire, time_zone))


def _scope(task: Task, schedule_id: int | None) -> Scope:
    if schedule_id is None:
        return fires.of_task(task)
    schedule = task.schedules.select_related("task").filter(pk=schedule_id).first()
    if schedule is None:
        raise NotFound(_("The task has no schedule %(id)s.") % {"id": schedule_id})
    return fires.of_schedule(schedule)


def _day(text: str | None, time_zone: str, now: datetime) -> date:
    if text is None:
        return day_of(now, time_zone)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not 1970 < day.year < 9000:
        raise InvalidInput(day=_("Write a day such as 2026-03-01."))
    return day


def _listed(scope: Scope, found: Summary, answers: Collection[str], now: datetime) -> Iterator[Fire]:
    place = None
    while True:
        page = fires.read(scope, found.start, found.end, now=now, limit=PAGE, answers=answers, after=place)
        # A stretch of an earlier rule that reaches beyond the day stands beside the sum.
        yield from (fire for fire in page.fires if fire.count == 1 or fire not in found.stretches)
        place = page.after
        if place is None:
            return


def _values(task: Task, day: date, time_zone: str, found: Summary, listed: list[Fire]) -> dict[str, Any]:
    return {
        "task": task.pk,
        "day": day.isoformat(),
        "time_zone": time_zone,
        **_tally_values(found),
        "hours": [_tally_values(hour) for hour in found.hours],
        "stretches": fire_values(found.stretches),
        "fires": fire_values(listed),
    }


def _tally_values(tally: Tally) -> dict[str, Any]:
    return {
        "start": iso(tally.start),
        "end": iso(tally.end),
        "expected": tally.expected,
        "to_come": tally.to_come,
        "answers": [{"answer": str(answer), "reason": reason, "count": n} for answer, reason, n in terms(tally)],
    }


def _line(fire: Fire, time_zone: str) -> str:
    local = fire.nominal_at.astimezone(zone(time_zone))
    text = f"{local:%Y-%m-%d %H:%M:%S%z}  {answer_words(fire.answer, fire.reason)}"
    if fire.last_at is not None:
        last = fire.last_at.astimezone(zone(time_zone))
        text += " " + _("(%(n)s instants of an earlier rule, up to %(last)s)") % {
            "n": fire.count,
            "last": f"{last:%F %T}",
        }
    if fire.run_id is not None:
        text += " " + _("run %(id)s: %(state)s") % {"id": fire.run_id, "state": fire.state}
    if fire.backfill_run_id is not None:
        text += " " + _("backfilled by run %(id)s") % {"id": fire.backfill_run_id}
    return text
