"""A child in a session of its own: its output streamed, its whole process group ended."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from tasks_app.models import EndStep
from workers_app.jobs import Control
from workers_app.limits import Limits
from workers_app.marks import Origin, put_mark
from workers_app.output import STDERR, STDOUT, OutputSink
from workers_app.reaper import reaper
from workers_app.runtime_settings import KILL_GRACE_SECONDS
from workers_app.strays import signal_escaped
from workers_app.usage import Watched, usage

# Waits for a line before it becomes the command: what is set for a process, and not for us, is set meanwhile. Code of
# ours between fork and exec would be no safe place for it, with a thousand threads around.
_GATE = 'read -r _ || exit 125; exec "$@" </dev/null'
NO_LIMITS = Limits()
_CHUNK = 64 * 1024
# After the child itself has ended, what its descendants still write is read for this long, then they are ended.
_LINGER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. `exit_code` is negative for a signal; `why` is "timeout", what the control said, or None."""

    exit_code: int
    why: str | None


def run_process(
    argv: Sequence[str],
    *,
    origin: Origin,
    env: Mapping[str, str],
    cwd: str,
    timeout: float,
    control: Control,
    sink: OutputSink,
    limits: Limits = NO_LIMITS,
) -> Ended:
    """Run `argv` for the attempt `origin` until it ends, `timeout` seconds have passed or `control` says so.

    Nothing of its group survives; what has left the group keeps its mark, and is found by it. Raises OSError when it
    cannot be started.
    """
    if shutil.which(argv[0], path={"PATH": os.defpath, **env}["PATH"]) is None:
        # Said by the shell at the gate, it would look like a command that another one did not find.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    child = subprocess.Popen(
        ["/bin/sh", "-c", _GATE, "sh", *argv],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    watched = Watched(origin, child.pid, limits, control)
    try:
        reaper.add(child.pid)
        if reaper.mark:
            put_mark(child.pid, reaper.mark, origin)
        limits.put_on(child.pid)
        if limits.watched:
            usage.watch(watched)
        _open_gate(child)
        why = _Watch(child, origin, control, sink, timeout).until_ended()
    finally:
        usage.forget(watched)
        end_leader(child.pid)
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    return Ended(child.returncode, why)


def _open_gate(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    # It may have been killed already.
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(b"\n")
        child.stdin.close()


def end_leader(pid: int) -> None:
    """Send KILL to the group that our child leads and wait for the child's end, without reaping it.

    Until it is reaped its number belongs to nobody else: no signal of ours or of the reaper's can hit a stranger.
    """
    end_group(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reaper.remove(pid)


def has_ended(pid: int) -> bool:
    """Whether our child has ended; does not reap it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def end_group(pid: int, number: int) -> None:
    """Send a signal to the process group that the child leads; a group that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class _Watch:
    """Waits on a child's pipes, its exit, the clock and the control at once, in one selector."""

    def __init__(
        self, child: subprocess.Popen[bytes], origin: Origin, control: Control, sink: OutputSink, timeout: float
    ) -> None:
        self._child, self._origin, self._control, self._sink = child, origin, control, sink
        self._deadline = time.monotonic() + timeout
        self._kill_at: float | None = None
        self._linger_until: float | None = None
        self._why: str | None = None
        self._selector = selectors.DefaultSelector()
        self._open = 0
        self._exit_fd = -1

    def until_ended(self) -> str | None:
        """Returns why it was ended, or None when it ended by itself."""
        try:
            self._register()
            while not self._over():
                for key, _events in self._selector.select(self._next_wait()):
                    self._handle(key)
                self._check_clock()
            return self._why
        finally:
            self._selector.close()
            if self._exit_fd >= 0:
                os.close(self._exit_fd)

    def _register(self) -> None:
        for stream, pipe in ((STDOUT, self._child.stdout), (STDERR, self._child.stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, stream)
            self._open += 1
        self._selector.register(self._control.fd, selectors.EVENT_READ, "control")
        with contextlib.suppress(OSError, AttributeError):  # before Linux 5.3 we look at the clock instead
            self._exit_fd = os.pidfd_open(self._child.pid)
            self._selector.register(self._exit_fd, selectors.EVENT_READ, "exit")

    def _over(self) -> bool:
        if not has_ended(self._child.pid):
            return False
        if self._linger_until is None:
            self._linger_until = time.monotonic() + _LINGER_SECONDS
        return self._open == 0 or time.monotonic() >= self._linger_until

    def _next_wait(self) -> float:
        moments = [self._deadline, *(m for m in (self._kill_at, self._linger_until) if m is not None)]
        if self._why is not None:
            moments.remove(self._deadline)
        most = 5.0 if self._exit_fd >= 0 and self._linger_until is None else 0.1
        return max(min([most, *(moment - time.monotonic() for moment in moments)]), 0.0)

    def _handle(self, key: selectors.SelectorKey) -> None:
        if key.data == "control":
            # Read, not ignored from now on: to lose the run outranks a cancel that is still waiting out its grace.
            os.read(self._control.fd, 16)
            self._end(self._control.why or Control.CANCEL)
        elif key.data == "exit":
            self._selector.unregister(key.fileobj)
        else:
            self._read(key.fileobj, key.data)

    def _read(self, pipe: IO[bytes] | int | object, stream: str) -> None:
        fd = pipe.fileno()  # type: ignore[union-attr]  # only the two pipes come here
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._sink.feed(stream, data)
        else:
            self._selector.unregister(pipe)  # type: ignore[arg-type]
            self._open -= 1

    def _check_clock(self) -> None:
        now = time.monotonic()
        if self._why is None and now >= self._deadline and not has_ended(self._child.pid):
            self._end("timeout")
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._signal(signal.SIGKILL)

    def _end(self, why: str) -> None:
        if why in Control.AT_ONCE:
            # Somebody wants no grace, another attempt may be under way already, or memory runs out for others.
            self._why = self._why if self._why == "timeout" else why
            if why != Control.LOST:
                self._sink.note("Killing the process group.")
            self._signal(signal.SIGKILL)
            return
        self._why = self._why or why
        if self._kill_at is not None:
            return
        self._sink.note(f"Ending the process group: {why}.")
        self._signal(signal.SIGTERM)
        self._kill_at = time.monotonic() + KILL_GRACE_SECONDS.value

    def _signal(self, number: int) -> None:
        self._control.took(EndStep.Step.TERM if number == signal.SIGTERM else EndStep.Step.KILL)
        end_group(self._child.pid, number)
        signal_escaped(self._origin, self._child.pid, number)
