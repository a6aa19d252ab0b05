"""A container by the docker command (or one like it, such as podman): its output streamed, the container ended with it.

The command is only a client: it may be killed and the container goes on. So the container has a name, and whoever ends
the command removes it by that name; where that was a kill of the whole worker, its reaper does.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace

import structlog
from django.conf import settings

from tasks_app.states import Reason, RunState
from workers_app.executors.container import Wish
from workers_app.executors.shell import run_command
from workers_app.folders import folder
from workers_app.jobs import Control, Job, Result
from workers_app.output import OutputSink
from workers_app.reaper import reaper

log = structlog.get_logger("worker")
# What the client itself reads: where its server is and with which keys.
_CLIENT = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR")
_LABEL = "scheduler.run"
_SECONDS = 60.0
# What a line of a file of variables can hold: docker reads no longer ones, and drops a carriage return at the end.
_LINE = re.compile(r"[^\r\n]{0,15000}")
_ENGINE_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127


def run(wish: Wish, job: Job, control: Control, sink: OutputSink) -> Result:
    """Run the container to its end; it is gone when this returns, whatever ended it."""
    if job.attempt > 1 and (left := _left_of(wish)):
        sink.note("Removing the container of an earlier attempt.")
        remove(left)
    broken = sorted(name for name, value in wish.env.items() if "\n" in value)
    if broken:
        detail = f"The docker command takes no line breaks in variables: {', '.join(broken)}."
        return Result(RunState.FAILED, Reason.INVALID_PARAMETERS, detail, retryable=False)
    client = {name: os.environ[name] for name in _CLIENT if name in os.environ}
    # No line of the file holds these: the client is told the name alone, and reads the value in its environment.
    no_lines = {name: value for name, value in wish.secrets.items() if not _LINE.fullmatch(value)}
    ended: Result | None = None
    place = folder.of_run(job.run_id)
    reaper.bequeath(wish.name, [[*_command(), "kill", wish.name], [*_command(), "rm", "--force", wish.name]])
    try:
        # Nobody else can read in that folder; as arguments, `ps` would show the values to everybody.
        variables = place / "variables"
        lines = {name: value for name, value in (wish.env | wish.secrets).items() if name not in no_lines}
        variables.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
        ended = run_command(_argv(wish, str(variables), list(no_lines)), job, control, sink, client | no_lines)
    finally:
        if ended is None or ended.state not in (RunState.SUCCEEDED, RunState.FAILED) or (ended.exit_code or 0) < 0:
            remove([wish.name])
        reaper.take_back(wish.name)
        shutil.rmtree(place, ignore_errors=True)
    return _judge(ended)


def remove(names: Sequence[str]) -> None:
    """End containers at once and remove them; ones that are gone are fine."""
    # Removing alone would give them ten seconds with some engines.
    _ask(["kill", *names])
    _ask(["rm", "--force", *names])


def _argv(wish: Wish, variables: str, names: Sequence[str]) -> list[str]:
    argv = [*_command(), "run", "--rm", "--init", "--name", wish.name, "--label", f"{_LABEL}={wish.run}"]
    argv += ["--pull", wish.pull, "--security-opt", "no-new-privileges", "--env-file", variables]
    argv += [word for name in names for word in ("--env", name)]
    if wish.memory is not None:
        argv += ["--memory", str(wish.memory)]
    if wish.cpus is not None:
        argv += ["--cpus", f"{wish.cpus:g}"]
    if wish.limits.cpu_seconds is not None:
        argv += ["--ulimit", f"cpu={wish.limits.cpu_seconds}"]
    if wish.limits.open_files is not None:
        argv += ["--ulimit", f"nofile={wish.limits.open_files}"]
    first, *rest = wish.entrypoint or [""]
    if first:
        argv += ["--entrypoint", first]
    return [*argv, *shlex.split(settings.SCHEDULER_CONTAINER_OPTIONS), wish.image, *rest, *wish.arguments]


def _judge(ended: Result) -> Result:
    if ended.state != RunState.FAILED:
        return ended
    if ended.exit_code == _ENGINE_FAILED:
        detail = "The container could not be started; the output says why."
        return replace(ended, reason=Reason.INTERNAL, detail=detail)
    if ended.exit_code in (_NOT_EXECUTABLE, _NOT_FOUND):
        return replace(ended, reason=Reason.COMMAND_NOT_FOUND, detail="The image has no such command.")
    return ended


def _left_of(wish: Wish) -> list[str]:
    return _ask(["ps", "--all", "--quiet", "--filter", f"label={_LABEL}={wish.run}"]).split()


def _ask(arguments: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [*_command(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("the container engine does not answer", error=str(error))
        return ""
    if done.returncode and arguments[0] != "kill":
        log.warning("the container engine refused", what=arguments[0], error=done.stderr.decode("utf-8", "replace"))
    return done.stdout.decode("utf-8", "replace")


def _command() -> list[str]:
    return shlex.split(settings.SCHEDULER_CONTAINER_COMMAND)
