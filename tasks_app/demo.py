"""The demo project: the crontabs of this machine as paused tasks, and a pipeline of scripts that runs each minute."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from access_app.actors import Actor
from tasks_app.errors import InvalidInput
from tasks_app.importing import Crontab, Report, import_crontabs
from tasks_app.models import Project, Task, TaskDependency
from tasks_app.services import dependencies, projects, tasks

PROJECT = "demo"
SYSTEM_CRONTAB = Path("/etc/crontab")
CRONTAB_FOLDER = Path("/etc/cron.d")
# cron itself passes over names with a dot in this folder: editors' copies and what dpkg left aside.
_CRON_D_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One task of the pipeline; `schedule` is a cron expression or None for a step that follows another."""

    name: str
    description: str
    schedule: str | None = None


PIPELINE: tuple[Step, ...] = (
    Step("extract", "Counts the time zones of each country in the IANA tables.", "* * * * *"),
    Step("transform", "Finds the next 20 changes of the clock over all zones."),
    Step("report", "Writes a report about both."),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the demo consists of now; `crontabs` is empty on a machine that has none."""

    project: Project
    crontabs: list[str]
    report: Report
    pipeline: list[Task]
    scripts: Path
    work_dir: Path


def load(actor: Actor, *, crontabs: Sequence[Path], now: datetime) -> Loaded:
    """Create the demo project, or bring it up to date: a second call creates nothing.

    Copies the scripts below SCHEDULER_SCRIPTS_DIR; their common work folder lies below SCHEDULER_DATA_DIR.
    Raises InvalidInput when a folder cannot be written.
    """
    scripts = settings.SCHEDULER_SCRIPTS_DIR / PROJECT
    work_dir = settings.SCHEDULER_DATA_DIR / PROJECT
    try:
        copy_scripts(scripts)
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(folder=f"{error.filename}: {error.strerror}.") from error
    files = [Crontab(str(path), path.read_bytes(), system=True) for path in crontabs]
    with transaction.atomic():
        project = _project(actor, now)
        report = import_crontabs(actor, files, project, time_zone=settings.SCHEDULER_TIME_ZONE, apply=True, now=now)
        pipeline = [_step_task(actor, step, project, work_dir, now) for step in PIPELINE]
        _connect(actor, pipeline, now)
    return Loaded(project, [file.path for file in files], report, pipeline, scripts, work_dir)


def machine_crontabs(system: Path = SYSTEM_CRONTAB, folder: Path = CRONTAB_FOLDER) -> list[Path]:
    """The system crontabs of this machine that can be read, in the order of their names."""
    found = [system]
    if folder.is_dir():
        found += sorted(path for path in folder.iterdir() if _CRON_D_NAME.fullmatch(path.name))
    return [path for path in found if path.is_file() and os.access(path, os.R_OK)]


def copy_scripts(folder: Path) -> None:
    """Put the scripts into the folder, each whole: a run that starts meanwhile finds the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in _sources():
        with tempfile.NamedTemporaryFile("wb", dir=folder, delete=False) as fresh:
            fresh.write(source.read_bytes())
        Path(fresh.name).chmod(0o644)
        Path(fresh.name).replace(folder / source.name)


def _sources() -> Iterator[Path]:
    folder = settings.BASE_DIR / "demo" / "scripts"
    return (folder / f"{step.name}.py" for step in PIPELINE)


def _project(actor: Actor, now: datetime) -> Project:
    project = Project.objects.filter(name=PROJECT).first()
    if project is None:
        text = "Real work on real input, to look at and to play with."
        project = projects.create(actor, name=PROJECT, description=text, now=now)
    return project


def _step_task(actor: Actor, step: Step, project: Project, work_dir: Path, now: datetime) -> Task:
    how = {
        "description": step.description,
        "executor": "python",
        "command": f"{PROJECT}/{step.name}.py",
        "params": {"WORK_DIR": str(work_dir)},
        "timeout_seconds": 60,
    }
    task = Task.objects.select_related("version", "project").filter(project=project, name=step.name).first()
    if task is None:
        what = {"name": step.name, "project": project}
        return tasks.create(actor, {**what, **how, "schedule": step.schedule}, now=now)
    current = tasks.describe(task)
    changes: dict[str, Any] = {name: value for name, value in how.items() if current[name] != value}
    return tasks.update(actor, task, changes, now=now) if changes else task


def _connect(actor: Actor, pipeline: list[Task], now: datetime) -> None:
    for upstream, downstream in pairwise(pipeline):
        if not TaskDependency.objects.filter(upstream=upstream, downstream=downstream).exists():
            dependencies.create(actor, upstream, downstream, now=now)
