"""`shell`: a command line for /bin/sh -c. Parameters arrive as PARAM_* variables, never inside the text."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from tasks_app.states import Reason, RunState
from workers_app.environment import child_environment
from workers_app.folders import folder
from workers_app.jobs import Control, Job, Result, over_limit
from workers_app.output import OutputSink
from workers_app.processes import Ended, run_process
from workers_app.runtime_settings import KILL_GRACE_SECONDS

# EX_TEMPFAIL of sysexits.h: the command asks to be tried again a minute later.
EXIT_ASK_AGAIN = 75


def execute(job: Job, control: Control, sink: OutputSink) -> Result:
    return run_command(["/bin/sh", "-c", job.command], job, control, sink)


def run_command(
    argv: Sequence[str], job: Job, control: Control, sink: OutputSink, extra_env: dict[str, str] | None = None
) -> Result:
    """Run a command in an empty folder of its own, which is removed afterwards, and read its end as a result."""
    place = str(folder.of_run(job.run_id))
    try:
        env = child_environment(job) | {"TMPDIR": place, "PWD": place} | (extra_env or {})
        ended = run_process(
            argv,
            origin=job.origin,
            env=env,
            cwd=place,
            timeout=job.timeout_seconds,
            control=control,
            sink=sink,
            limits=job.limits,
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | PermissionError)
        reason = Reason.COMMAND_NOT_FOUND if missing else Reason.INTERNAL
        return Result(RunState.FAILED, reason, f"The command could not be started: {error}.")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sink.close()
    return result_of(ended, job, sink, control)


def result_of(ended: Ended, job: Job, sink: OutputSink, control: Control | None = None) -> Result:
    """What the end of the command means for the run; of the sink the last lines count. `control` says which limit the
    run was over."""
    code = ended.exit_code
    if control is not None and ended.why == control.why and (result := over_limit(control)) is not None:
        return replace(result, exit_code=code)
    if ended.why == "timeout":
        detail = f"It ran longer than {job.timeout_seconds:g} s and was ended."
        return Result(RunState.TIMED_OUT, Reason.TIMEOUT, detail, exit_code=code)
    if ended.why == Control.KILL:
        return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED, "Killed on request.", exit_code=code)
    if ended.why is not None:
        grace = KILL_GRACE_SECONDS.value
        detail = f"Ended on request; TERM first, KILL after {grace:g} s."
        return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED, detail, exit_code=code)
    if code == 0:
        return Result(RunState.SUCCEEDED, exit_code=0, output=sink.last_json)
    if job.limits and (refused := job.limits.refused(sink.last_words)) is not None:
        return Result(RunState.FAILED, *refused, exit_code=code)
    if code == 127:
        return Result(RunState.FAILED, Reason.COMMAND_NOT_FOUND, "Exit code 127: command not found.", exit_code=code)
    if code < 0:
        return Result(RunState.FAILED, Reason.EXIT_CODE, f"Ended by signal {-code}.", exit_code=code)
    delay = 60.0 if code == EXIT_ASK_AGAIN else None
    return Result(RunState.FAILED, Reason.EXIT_CODE, f"Exit code {code}.", exit_code=code, asked_delay=delay)
