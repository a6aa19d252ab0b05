"""Keeping a few child processes alive in the foreground, and ending them all together."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0
MOST_RESTARTS = 10
# A child that lived this long has started well; its earlier ends are forgotten.
SETTLED_SECONDS = 60.0
STOP_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """One command to keep alive."""

    name: str
    argv: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    retry_at: float = field(default=0.0)


class Supervisor:
    """Starts children, starts again what ends, and stops them all when told to."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = list(children)
        self._stop = threading.Event()

    def start(self) -> None:
        for child in self._children:
            self._start(child)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look after the children until `condition` holds; False when it does not within `seconds`, or on stop."""
        end = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < end:
            if condition():
                return True
            self._look_after()
            self._stop.wait(0.1)
        return False

    def run(self) -> int:
        """Look after the children until stopped, then end them. Returns 1 when one could not be kept alive, else 0."""
        while not self._stop.is_set():
            self._look_after()
            self._stop.wait(0.3)
        self._end_all()
        return int(any(child.restarts > MOST_RESTARTS for child in self._children))

    def stop(self) -> None:
        self._stop.set()

    def _look_after(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.retry_at:
                    self._start(child)
            elif (code := child.process.poll()) is not None:
                self._after_end(child, code, now)
            elif child.restarts and now - child.started_at > SETTLED_SECONDS:
                child.restarts = 0

    def _after_end(self, child: Child, code: int, now: float) -> None:
        log.warning("a part ended; starting it again", part=child.name, exit_code=code)
        child.process = None
        child.restarts += 1
        child.retry_at = now + RESTART_SECONDS * child.restarts
        if child.restarts > MOST_RESTARTS:
            log.error("a part ends again and again; giving up", part=child.name, restarts=child.restarts)
            self.stop()

    def _start(self, child: Child) -> None:
        env = os.environ | {"SCHEDULER_DRAIN_SECONDS": _drain_seconds()}
        child.started_at = time.monotonic()
        # A session of its own: Ctrl-C reaches the supervisor alone, which then ends the children in order.
        child.process = subprocess.Popen(
            list(child.argv),
            env=env,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  (this process has one thread)
        )

    def _end_all(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS + float(_drain_seconds())
        for process in running:
            try:
                process.wait(timeout=max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _drain_seconds() -> str:
    """Shorter than a worker's own default: whoever pressed Ctrl-C is waiting."""
    return os.environ.get("SCHEDULER_DRAIN_SECONDS", "10")


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _die_with_parent() -> None:
    """Have the kernel end this child when the supervisor is killed; it runs between fork and exec, on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
