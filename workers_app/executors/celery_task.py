"""`celery`: an existing Celery task by name, executed in a process of its own that imports its application."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings

from tasks_app.states import Reason, RunState
from workers_app.executors.shell import run_command
from workers_app.folders import folder
from workers_app.jobs import Control, Job, Result
from workers_app.output import OutputSink, parse_json

_LIMITS = (Reason.MEMORY_LIMIT, Reason.CPU_LIMIT, Reason.OPEN_FILES_LIMIT)
_MAIN = Path(__file__).resolve().parent.parent / "celery_main.py"


def execute(job: Job, control: Control, sink: OutputSink) -> Result:
    if not settings.SCHEDULER_CELERY_APP:
        detail = "This worker knows no Celery application: set SCHEDULER_CELERY_APP, or route the task by labels."
        return Result(RunState.FAILED, Reason.COMMAND_NOT_FOUND, detail)
    place = folder.of_run(job.run_id)
    try:
        told = place / "result.json"
        python = settings.SCHEDULER_CELERY_PYTHON or sys.executable
        argv = [python, str(_MAIN), settings.SCHEDULER_CELERY_APP, job.command, str(told)]
        return _judge(run_command(argv, job, control, sink, _environment()), told)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _environment() -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in settings.SCHEDULER_CELERY_PASS if name in os.environ}
    own = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return passed_on | own | {"SCHEDULER_CELERY_DIR": settings.SCHEDULER_CELERY_DIR}


def _judge(ended: Result, told: Path) -> Result:
    """The end of the process, with what the task said where it ended by itself."""
    if ended.state not in (RunState.SUCCEEDED, RunState.FAILED) or ended.reason in _LIMITS:
        return ended
    ended = replace(ended, output=None, asked_delay=None)
    try:
        result: dict[str, Any] = parse_json(told.read_text(encoding="utf-8"))
    except FileNotFoundError:
        # It did not get so far: the application cannot be imported, or the task ended its process.
        return ended
    except ValueError as error:
        return replace(ended, detail=f"{ended.detail} What it returned cannot be stored: {error}.".strip())
    match result["kind"]:
        case "returned":
            return replace(ended, output=result["value"])
        case "unknown":
            return replace(ended, reason=Reason.COMMAND_NOT_FOUND, detail=result["detail"], retryable=False)
        case "retry":
            delay, names = result["seconds"], tuple(result["exceptions"])
            detail = f"It asked to be tried again in {delay:g} s. {result['detail']}".strip()
            return replace(ended, reason=Reason.EXCEPTION, detail=detail, asked_delay=delay, exceptions=names)
        case _:
            names = tuple(result["exceptions"])
            return replace(ended, reason=Reason.EXCEPTION, detail=result["detail"], exceptions=names)
