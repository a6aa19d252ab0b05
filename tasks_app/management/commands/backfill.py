"""manage.py backfill NAME --from T --to T: run a task for instants of the past; --dry-run only lists them."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.api.fields import EARLIEST, LATEST
from access_app.management.command import Failed, SchedulerCommand, command_actor
from access_app.management.progress import ProgressBar
from tasks_app.api.backfills import ORDERS, instant_values, render_backfills
from tasks_app.backfill_instants import Instant
from tasks_app.cron import zone
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.management.door import add_json_argument, add_task_arguments, find_task, parse_params
from tasks_app.models import Backfill, Schedule, Task
from tasks_app.models.backfill import Reprocess
from tasks_app.services import backfills
from tasks_app.services.backfills import Wish
from tasks_app.states import RunState

LOOK_SECONDS = 1.0


class Command(SchedulerCommand):
    help = _("Plan runs for the instants of a schedule in a time of the past. With --wait: exit 1 unless all succeed.")

    def add_arguments(self, parser: CommandParser) -> None:
        add_task_arguments(parser)
        text = _("such as 2026-03-01 or 2026-03-01T08:00, in the zone of the schedule, or with an offset; inclusive")
        parser.add_argument("--from", dest="start", required=True, metavar="T", help=text)
        parser.add_argument("--to", dest="end", required=True, metavar="T", help=text)
        parser.add_argument("--schedule", type=int, metavar="ID", help=_("which one, where the task has several"))
        parser.add_argument(
            "--reprocess",
            choices=Reprocess.values,
            default=Reprocess.NONE.value,
            help=_("which instants that have a run get another one (default: none)"),
        )
        parser.add_argument("--order", choices=ORDERS, default=ORDERS[0], help=_("default: oldest first"))
        parser.add_argument("--max-concurrent", type=int, default=1, metavar="N", help=_("runs at once (default: 1)"))
        parser.add_argument(
            "--param", action="append", default=[], metavar="k=v", help=_("a parameter, as trigger_task")
        )
        parser.add_argument("--dry-run", action="store_true", help=_("only list what would be planned"))
        parser.add_argument("--wait", action="store_true", help=_("wait until all runs are over, with a progress bar"))
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        task = find_task(actor, options["name"], options["project"])
        schedule = _schedule(task, options["schedule"])
        zone_name = schedule.time_zone if schedule else "UTC"
        wish = Wish(
            start=_moment("from", options["start"], zone_name),
            end=_moment("to", options["end"], zone_name),
            schedule=schedule,
            reprocess=options["reprocess"],
            newest_first=options["order"] == "newest",
            max_concurrent=options["max_concurrent"],
            params=parse_params(options["param"]),
        )
        if options["dry_run"]:
            self._list(backfills.preview(actor, task, wish, now=timezone.now()), zone_name, options)
            return
        backfill = backfills.plan(actor, task, wish, now=timezone.now())
        if not options["json"]:
            words = {"id": backfill.pk, "n": f"{backfill.total:,}", "task": task.name}
            self.stdout.write(_("Backfill %(id)s: %(n)s runs of %(task)s are planned.") % words)
            self.stdout.flush()
        if options["wait"]:
            self._wait(backfill)
        if options["json"]:
            self.print_json(render_backfills([backfill], actor)[0])
        if options["wait"]:
            _judge(backfill)

    def _list(self, found: list[Instant], zone_name: str, options: dict[str, Any]) -> None:
        planned = sum(one.planned for one in found)
        if options["json"]:
            self.print_json({"planned": planned, "instants": instant_values(found)})
            return
        for one in found:
            local = one.nominal_at.astimezone(zone(zone_name))
            self.stdout.write(f"{local:%Y-%m-%d %H:%M:%S%z}  {one.why_not or _('planned'):<12} {_had(one)}".rstrip())
        words = {"planned": f"{planned:,}", "total": f"{len(found):,}"}
        self.stdout.write(_("%(planned)s of %(total)s instants would get a run.") % words)

    def _wait(self, backfill: Backfill) -> None:
        progress = ProgressBar(self.stderr, backfill.total)
        while True:
            found = backfills.progress(backfill)
            counts = ", ".join(f"{n:,} {state}" for state, n in found.counts.items() if n)
            progress.show(backfill.total - (found.kept - found.over), counts)
            if found.done:
                progress.end()
                backfill.refresh_from_db()
                return
            time.sleep(LOOK_SECONDS)


def _judge(backfill: Backfill) -> None:
    counts = backfills.progress(backfill).counts
    bad = {state: n for state, n in counts.items() if n and state != RunState.SUCCEEDED}
    if bad:
        raise Failed(_("Not all succeeded: %(counts)s.") % {"counts": ", ".join(f"{n} {s}" for s, n in bad.items())})


def _schedule(task: Task, schedule_id: int | None) -> Schedule | None:
    if schedule_id is None:
        found = list(task.schedules.order_by("pk")[:2])
        # Of none or several the service says what is to be done.
        return found[0] if len(found) == 1 else None
    one = task.schedules.filter(pk=schedule_id).first()
    if one is None:
        raise NotFound(_("The task has no schedule %(id)s.") % {"id": schedule_id})
    return one


def _moment(name: str, text: str, zone_name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone(zone_name))
        if EARLIEST <= moment <= LATEST:
            return moment
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(**{name: _("Write a time such as 2026-03-01 or 2026-03-01T08:00.")})


def _had(one: Instant) -> str:
    if one.run_id is not None:
        return _("run %(id)s: %(state)s") % {"id": one.run_id, "state": one.state}
    return f"{one.answer} ({one.reason})" if one.answer else ""
