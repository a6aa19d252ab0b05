"""manage.py load_demo: a sample project with real work."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.management.command import SchedulerCommand, command_actor
from tasks_app import demo
from tasks_app.importing import Outcome
from tasks_app.management.door import add_json_argument


class Command(SchedulerCommand):
    help = _(
        "Load the demo project: the crontabs of this machine as paused tasks, and a pipeline that runs each minute."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_json_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        loaded = demo.load(command_actor(), crontabs=demo.machine_crontabs(), now=timezone.now())
        if options["json"]:
            self.print_json(_values(loaded))
            return
        for line in _lines(loaded):
            self.stdout.write(line)


def _values(loaded: demo.Loaded) -> dict[str, Any]:
    return {
        "project": loaded.project.name,
        "crontabs": loaded.crontabs,
        "imported": loaded.report.counts,
        "pipeline": [task.name for task in loaded.pipeline],
        "scripts": str(loaded.scripts),
        "work_dir": str(loaded.work_dir),
    }


def _lines(loaded: demo.Loaded) -> list[str]:
    steps = " → ".join(task.name for task in loaded.pipeline)
    lines = [_("The project %(name)s is loaded.") % {"name": loaded.project.name}]
    if loaded.crontabs:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in loaded.report.counts.items() if count)
        words = {"files": ", ".join(loaded.crontabs), "counts": counts or _("no jobs in them")}
        lines.append(_("Paused tasks from %(files)s: %(counts)s.") % words)
    else:
        lines.append(_("This machine has no crontab in /etc: nothing was imported."))
    lines += [
        f"  {item.outcome:<11} {item.path}:{item.line}  {item.task or item.detail}"
        for item in loaded.report.items
        if item.outcome is not Outcome.UNCHANGED
    ]
    report, name = loaded.work_dir / "report.md", loaded.project.name
    return [
        *lines,
        _("A pipeline that runs each minute: %(steps)s.") % {"steps": steps},
        _("Its scripts: %(folder)s") % {"folder": loaded.scripts},
        _("Its report, once it has run: %(file)s") % {"file": report},
        _("In the console: Tasks, project %(name)s.") % {"name": name},
        _("From here: manage.py trigger_task extract --project %(name)s --wait") % {"name": name},
    ]
