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
from tasks_app.models import Pool, Project, Schedule, Task
from tasks_app.services import schedules, tasks
from tasks_app.texts import clipped

LONGEST_FILE_NAME = 60
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

    A task that came from the same line before is brought up to date where it differs; whether it is paused, and
    everything else about it, stays. `time_zone` is the IANA zone of files that do not say CRON_TZ.
    """
    report = Report(apply, project.name)
    with transaction.atomic():
        pool = _default_pool()
        names = _Names()
        for file in files:
            for read in crontab.parse(file.content, system=file.system):
                if isinstance(read, crontab.Problem):
                    report.items.append(_problem_item(file, read))
                else:
                    job = _Job.of(file, read, names, time_zone)
                    report.items.append(_take_over(actor, job, project, pool, now))
        if not apply:
            transaction.set_rollback(True)
    report.notes = _notes(files, report.items)
    return report


def _default_pool() -> Pool:
    pool = Pool.objects.filter(name="default").first()
    if pool is None:
        raise InvalidInput(pool=_("There is no pool named default; imported tasks belong to it."))
    return pool


@dataclass(frozen=True, slots=True)
class _Job:
    path: str
    entry: crontab.Entry
    name: str
    time_zone: str
    command: str
    description: str
    origin: str

    @classmethod
    def of(cls, file: Crontab, entry: crontab.Entry, names: _Names, time_zone: str) -> _Job:
        command = command_line(entry.command, entry.environment, entry.stdin)
        origin = clipped(f"{ORIGIN}{file.path}", 500)
        description = origin if entry.user is None else f"{origin}, where it runs as {entry.user}"
        return cls(
            file.path,
            entry,
            names.name_for(file.path, entry.command, command),
            entry.time_zone or time_zone,
            command,
            f"{description}.",
            origin,
        )

    def item(self, outcome: Outcome, detail: str = "") -> Item:
        entry = self.entry
        shown = clipped(entry.command, 500)
        return Item(
            self.path, entry.line, outcome, self.name, entry.expression, self.time_zone, entry.user, shown, detail
        )


class _Names:
    """Stable names: the file and the gist of the command, with a digest of the command for those that share one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name_for(self, path: str, command: str, whole: str) -> str:
        stem = clipped(PurePath(path).name or path, LONGEST_FILE_NAME)
        stem = "".join(char if char.isprintable() else "?" for char in stem)
        name = f"{stem}: {gist(command)}"
        if name in self._taken:
            name = f"{name} #{hashlib.sha256(whole.encode()).hexdigest()[:6]}"
        base, place = name, 1
        while name in self._taken:
            place += 1
            name = f"{base} ({place})"
        self._taken.add(name)
        return name


def _take_over(actor: Actor, job: _Job, project: Project, pool: Pool, now: datetime) -> Item:
    try:
        task = Task.objects.select_related("version", "project", "pool").filter(project=project, name=job.name).first()
        if task is None:
            _create(actor, job, project, pool, now)
            return job.item(Outcome.CREATED)
        changed = _bring_up_to_date(actor, job, task, now)
    except InvalidInput as error:
        return job.item(Outcome.MALFORMED, str(error))
    if not changed:
        return job.item(Outcome.UNCHANGED)
    return job.item(Outcome.UPDATED, ", ".join(changed))


def _create(actor: Actor, job: _Job, project: Project, pool: Pool, now: datetime) -> None:
    fields = {"project": project, "pool": pool, "name": job.name} | _task_fields(job)
    with transaction.atomic():
        task = tasks.create(actor, fields, now=now, paused=True)
        _create_schedule(actor, job, task, now)


def _bring_up_to_date(actor: Actor, job: _Job, task: Task, now: datetime) -> list[str]:
    """Change what differs; returns the names of the changed fields."""
    version = task.version
    assert version is not None
    current = {"description": task.description, "executor": version.executor, "command": version.command}
    changes = {name: value for name, value in _task_fields(job).items() if current[name] != value}
    schedule = task.schedules.filter(note__startswith=ORIGIN).select_related("task").order_by("pk").first()
    rule = _schedule_fields(job)
    with transaction.atomic():
        if changes:
            tasks.update(actor, task, changes, now=now)
        if schedule is None:
            _create_schedule(actor, job, task, now)
            return [*changes, "schedule"]
        rule_changes = {name: value for name, value in rule.items() if getattr(schedule, name) != value}
        if rule_changes:
            schedules.update(actor, schedule, rule_changes, now=now)
    return [*changes, *rule_changes]


def _task_fields(job: _Job) -> dict[str, Any]:
    return {"executor": "shell", "command": job.command, "description": job.description}


def _schedule_fields(job: _Job) -> dict[str, Any]:
    return {"kind": "cron", "expression": job.entry.expression, "time_zone": job.time_zone, "note": job.origin}


def _create_schedule(actor: Actor, job: _Job, task: Task, now: datetime) -> Schedule:
    return schedules.create(actor, task, _schedule_fields(job), now=now)


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
