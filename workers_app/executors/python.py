"""`python`: a script below SCHEDULER_SCRIPTS_DIR, with arguments, in an interpreter process of its own."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from django.conf import settings

from tasks_app.states import Reason, RunState
from workers_app.executors.shell import run_command
from workers_app.jobs import Control, Job, Result
from workers_app.output import OutputSink


def execute(job: Job, control: Control, sink: OutputSink) -> Result:
    script, *arguments = shlex.split(job.command)
    folder = Path(settings.SCHEDULER_SCRIPTS_DIR)
    path = (folder / script).resolve()
    if not path.is_relative_to(folder.resolve()):
        detail = f"{script} lies outside the scripts folder."
        return Result(RunState.FAILED, Reason.SCRIPT_MISSING, detail, retryable=False)
    if not path.is_file():
        detail = f"There is no script {script} in {folder} on this worker."
        return Result(RunState.FAILED, Reason.SCRIPT_MISSING, detail)
    argv = [sys.executable, str(path), *arguments]
    return run_command(argv, job, control, sink, {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"})
