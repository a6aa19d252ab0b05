"""Takes the jobs of other schedulers over as paused tasks, and says what becomes of every line.

A dry run is the import itself, rolled back: it cannot answer differently from the import that follows it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from access_app.actors import Actor
from tasks_app.errors import InvalidInput
from tasks_app.imports import crontab
from tasks_app.imports.shell_text import command_line, gist
from tasks_app.models import Project, Schedule, Task
from tasks_app.services import schedules, tasks
from tasks_app.texts import clipped

LONGEST_FILE_NAME = 60
LONGEST_NOTE = 500
ORIGIN = "Imported from "


class Outcome(StrEnum):
    """What becomes of one line."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    UNSUPPORTED = "unsupported"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Crontab:
    """A crontab file: the path it is shown by, its bytes, and whether it has the user column."""

    path: str
    content: bytes
    system: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a file and what becomes of it; `detail` says which fields change, or what is wrong."""

    path: str
    line: int
    outcome: Outcome
    task: str = ""
    expression: str = ""
    time_zone: str = ""
    user: str | None = None
    command: str = ""
    detail: str = ""


@dataclass(slots=True)
class Report:
    """Every line of every file, in order, and what else the reader should know."""

    applied: bool
    project: str
    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        counted = Counter(item.outcome for item in self.items)
        return {outcome.value: counted[outcome] for outcome in Outcome}


def import_crontabs(
    actor: Actor, files: Sequence[Crontab], project: Project, *, time_zone: str, apply: bool, now: datetime
) -> Report:
    """Make each job of the files a paused task of the project, in one transaction; without `apply`, roll it back.

    A line belongs to the task that came from the same file with the same command before: its times are brought up to
    date there; whether it is paused, and everything else about it, stays. Any other line becomes a new task, so that
    nothing that was looked at and resumed ever runs another command. `time_zone` is the IANA zone of files that do not
    say CRON_TZ.
    """
    report = Report(apply, project.name)
    gone: list[str] = []
    with transaction.atomic():
        names = _Names(project)
        for file in files:
            reads = list(crontab.parse(file.content, system=file.system))
            jobs = [_Job.of(file, read, time_zone) for read in reads if isinstance(read, crontab.Entry)]
            known = _Known(project, _origin(file.path), jobs)
            items = {job.entry.line: _take_over(actor, job, project, known, names, now) for job in jobs}
            problems = [_problem_item(file, read) for read in reads if isinstance(read, crontab.Problem)]
            report.items += sorted([*items.values(), *problems], key=lambda item: item.line)
            gone += known.gone_note(file.path)
        if not apply:
            transaction.set_rollback(True)
    report.notes = [*_notes(files, report.items), *gone]
    return report


def _origin(path: str) -> str:
    """What the note of an imported schedule says: the whole path, or a digest where that is too long for it."""
    origin = f"{ORIGIN}{path}"
    return origin if len(origin) <= LONGEST_NOTE else f"{origin[: LONGEST_NOTE - 65]}…{_digest(path)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Job:
    path: str
    entry: crontab.Entry
    time_zone: str
    command: str
    description: str
    origin: str

    @classmethod
    def of(cls, file: Crontab, entry: crontab.Entry, time_zone: str) -> _Job:
        command = command_line(entry.command, entry.environment, entry.stdin)
        origin = _origin(file.path)
        description = origin if entry.user is None else f"{origin}, where it runs as {entry.user}"
        return cls(file.path, entry, entry.time_zone or time_zone, command, f"{description}.", origin)

    def rule(self) -> dict[str, Any]:
        """The fields of its schedule."""
        return {
            "kind": "cron",
            "expression": self.entry.expression,
            "time_zone": self.time_zone,
            "note": self.origin,
        }

    def item(self, outcome: Outcome, task: str, detail: str = "") -> Item:
        entry = self.entry
        shown = clipped(entry.command, 500)
        return Item(self.path, entry.line, outcome, task, entry.expression, self.time_zone, entry.user, shown, detail)


class _Known:
    """The schedules that came from a file before, each for one line of it with the same command.

    Where several lines have one command, each finds the schedule with its own times first.
    """

    def __init__(self, project: Project, origin: str, jobs: Sequence[_Job]) -> None:
        rows = Schedule.objects.filter(task__project=project, note=origin, task__version__executor="shell")
        self._left: dict[str, list[Schedule]] = {}
        for row in rows.select_related("task__version", "task__project", "task__pool").order_by("pk"):
            assert row.task.version is not None
            self._left.setdefault(row.task.version.command, []).append(row)
        self._of_line: dict[int, Schedule] = {}
        for same_times in (True, False):
            for job in jobs:
                self._match(job, same_times)

    def of(self, job: _Job) -> Schedule | None:
        """The schedule that came from this line before."""
        return self._of_line.get(job.entry.line)

    def gone_note(self, path: str) -> list[str]:
        """One sentence that names the tasks that no line of the file belongs to any more; none where all are there."""
        kept = {schedule.task_id for schedule in self._of_line.values()}
        left = {row.task.name for rows in self._left.values() for row in rows if row.task_id not in kept}
        if not left:
            return []
        words = {"path": path, "names": clipped(", ".join(sorted(left)), LONGEST_NOTE)}
        return [_("No longer in %(path)s; they stay as they are: %(names)s.") % words]

    def _match(self, job: _Job, same_times: bool) -> None:
        if job.entry.line in self._of_line:
            return
        left = self._left.get(job.command, [])
        times = (job.entry.expression, job.time_zone)
        found = next((row for row in left if not same_times or (row.expression, row.time_zone) == times), None)
        if found is not None:
            left.remove(found)
            self._of_line[job.entry.line] = found


class _Names:
    """New names: the file and the gist of the command; with a digest of path and command where that one is taken."""

    def __init__(self, project: Project) -> None:
        self._taken = set(Task.objects.filter(project=project).values_list("name", flat=True))

    def name_for(self, job: _Job) -> str:
        stem = clipped(PurePath(job.path).name or job.path, LONGEST_FILE_NAME)
        stem = "".join(char if char.isprintable() else "?" for char in stem)
        name = f"{stem}: {gist(job.entry.command)}"
        if name in self._taken:
            name = f"{name} #{_digest(job.path + job.command)[:6]}"
        base, place = name, 1
        while name in self._taken:
            place += 1
            name = f"{base} ({place})"
        self._taken.add(name)
        return name


def _take_over(actor: Actor, job: _Job, project: Project, known: _Known, names: _Names, now: datetime) -> Item:
    schedule = known.of(job)
    name = schedule.task.name if schedule is not None else names.name_for(job)
    try:
        if schedule is None:
            _create(actor, job, project, name, now)
            return job.item(Outcome.CREATED, name)
        changed = _bring_up_to_date(actor, job, schedule, now)
    except InvalidInput as error:
        return job.item(Outcome.MALFORMED, name, str(error))
    return job.item(Outcome.UPDATED if changed else Outcome.UNCHANGED, name, ", ".join(changed))


def _create(actor: Actor, job: _Job, project: Project, name: str, now: datetime) -> None:
    how = {"executor": "shell", "command": job.command, "description": job.description}
    with transaction.atomic():
        task = tasks.create(actor, {"project": project, "name": name, **how}, now=now, paused=True)
        schedules.create(actor, task, job.rule(), now=now)


def _bring_up_to_date(actor: Actor, job: _Job, schedule: Schedule, now: datetime) -> list[str]:
    """Change what differs, never the command; returns the names of the changed fields."""
    task = schedule.task
    changes = {} if task.description == job.description else {"description": job.description}
    rule = {name: value for name, value in job.rule().items() if getattr(schedule, name) != value}
    with transaction.atomic():
        if changes:
            tasks.update(actor, task, changes, now=now)
        if rule:
            schedules.update(actor, schedule, rule, now=now)
    return [*changes, *rule]


def _problem_item(file: Crontab, problem: crontab.Problem) -> Item:
    outcome = Outcome.UNSUPPORTED if problem.unsupported else Outcome.MALFORMED
    return Item(file.path, problem.line, outcome, command=problem.text, detail=problem.reason)


def _notes(files: Sequence[Crontab], items: Iterable[Item]) -> list[str]:
    taken = [item for item in items if item.task]
    notes = []
    users = sorted({item.user for item in taken if item.user})
    if users:
        notes.append(
            _("Runs are not started as the user of the line (%(users)s) but as the account of the worker.")
            % {"users": ", ".join(users)}
        )
    if any(item.outcome is Outcome.CREATED for item in taken):
        notes.append(_("New tasks are paused: look at them, stop their crontab lines, then resume them."))
        notes.append(
            _("Commands start in an empty folder, unless HOME is set; output is kept with the run, not mailed.")
        )
    for file in files:
        commands = [item.command for item in taken if item.path == file.path]
        if not file.system and commands and all(command.startswith("root ") for command in commands):
            notes.append(_("%(path)s looks like a system crontab: say --system.") % {"path": file.path})
    return notes
