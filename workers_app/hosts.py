"""Warm processes for callables: feed a pack, collect results, take back what is stuck, recycle, kill one alone."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from workers_app.jobs import Job
from workers_app.marks import Origin, put_mark
from workers_app.processes import end_group, end_leader, has_ended
from workers_app.reaper import reaper

log = structlog.get_logger(__name__)
MAX_CALLS = 20_000
MAX_BYTES = 512 * 1024 * 1024
START_SECONDS = 60.0
LAST_SECONDS = 1.0
_ROOT = Path(__file__).resolve().parent.parent
_numbers = count(1)


class HostDied(Exception):
    """The host process ended while it held calls."""

    def __init__(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        super().__init__(f"host process ended with {exit_code}")


class Host:
    """The worker's side of one host process. Used by one thread at a time."""

    def __init__(self, origin: Origin) -> None:
        with contextlib.ExitStack() as undo:
            request_read, self._request = _pipe(undo)
            self._token_read, self._token = _pipe(undo)
            end_read, self._end = _pipe(undo)
            self._result, result_write = _pipe(undo)
            theirs = (request_read, self._token_read, end_read, result_write)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers_app.host_main", *map(str, theirs)],
                pass_fds=theirs,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=_ROOT,
            )
            undo.callback(self._reap)
            undo.callback(self.kill)
            reaper.add(self._process.pid)
            if reaper.mark:
                # It is still reading its first module.
                put_mark(self._process.pid, reaper.mark, origin)
            undo.pop_all()
        for fd in (request_read, end_read, result_write):
            os.close(fd)
        os.set_blocking(self._token_read, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._result, selectors.EVENT_READ)
        self._rest = b""
        self.origin = origin
        self.calls = 0
        self.peak_bytes = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def feed(self, jobs: Sequence[Job]) -> None:
        """Hand over a pack; `frames` then tells what comes of it, by place in the pack. Raises HostDied."""
        self.calls += len(jobs)
        calls = [
            [place, job.command, job.params, job.limits.of_system(), dict(job.secrets)]
            for place, job in enumerate(jobs)
        ]
        try:
            os.write(self._token, b"t" * len(jobs))
            data = (json.dumps(calls) + "\n").encode()
            while data:
                data = data[os.write(self._request, data) :]
        except BrokenPipeError as error:
            raise HostDied(self._reap()) from error

    def frames(self, timeout: float) -> list[list[Any]]:
        """What the host has sent, waiting at most `timeout` seconds for it. Raises HostDied at its end."""
        if not self._selector.select(timeout):
            return []
        data = os.read(self._result, 256 * 1024)
        if not data:
            raise HostDied(self._reap())
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            # A callable has written into our pipe, or left a fork of the host behind.
            self.kill()
            raise HostDied(self._reap()) from error

    def take_back(self) -> int:
        """Take back the calls that have not begun; returns how many, counted from the end of the pack."""
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._token_read, 4096):
                taken += len(part)
        return taken

    def terminate(self, place: int) -> None:
        """Ask the call at this place of the pack to end (it may clean up); nothing happens when it has just ended."""
        with contextlib.suppress(ProcessLookupError, BrokenPipeError):
            os.write(self._end, f"{place}\n".encode())
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        end_group(self._process.pid, signal.SIGKILL)

    def worn_out(self) -> bool:
        """Whether it has done its share, has grown too large, or has ended."""
        return self.calls >= MAX_CALLS or self.peak_bytes >= MAX_BYTES or has_ended(self._process.pid)

    def close(self) -> None:
        """End the process, at once and with everything it started."""
        self.kill()
        self._reap()
        self._selector.close()
        for fd in (self._request, self._token, self._token_read, self._end, self._result):
            os.close(fd)

    def wait_ready(self) -> None:
        """Wait until it has imported everything. Raises HostDied when it ends instead or takes over a minute."""
        end = time.monotonic() + START_SECONDS
        while (left := end - time.monotonic()) > 0:
            if any(frame[0] == "ready" for frame in self.frames(left)):
                return
        raise HostDied(None)

    def _reap(self) -> int | None:
        """The exit code. It has closed its pipes, or was killed; one that lives on all the same is killed now."""
        end = time.monotonic() + LAST_SECONDS
        while not has_ended(self._process.pid) and time.monotonic() < end:
            time.sleep(0.01)
        end_leader(self._process.pid)
        return self._process.wait()


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    reading, writing = os.pipe()
    undo.callback(os.close, reading)
    undo.callback(os.close, writing)
    return reading, writing


class HostPool:
    """Idle hosts, ready for the next pack; as many as there were packs at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Host] = []
        self._origins: set[Origin] = set()
        self._closed = False

    def origins(self) -> set[Origin]:
        """The marks of the hosts that there are, and of all that they have started."""
        with self._lock:
            return set(self._origins)

    def acquire(self) -> Host:
        """An idle host, else a new one. Raises HostDied when it does not start."""
        with self._lock:
            host = self._idle.pop() if self._idle else None
        if host is not None:
            return host
        origin = (0, next(_numbers))
        with self._lock:
            self._origins.add(origin)
        try:
            host = Host(origin)
        except OSError as error:
            log.error("callable host does not start", error=str(error))
            with self._lock:
                self._origins.discard(origin)
            raise HostDied(None) from error
        try:
            host.wait_ready()
        except HostDied:
            self.discard(host)
            raise
        return host

    def release(self, host: Host) -> None:
        """Give a host back that has answered its whole pack."""
        with self._lock:
            keep = not self._closed and not host.worn_out()
            if keep:
                self._idle.append(host)
        if not keep:
            self.discard(host)

    def discard(self, host: Host) -> None:
        """End a host for good."""
        host.close()
        with self._lock:
            self._origins.discard(host.origin)

    def warm(self, count: int) -> None:
        """Start `count` hosts ahead of the first run; a failure shows again, with its run, at first use."""
        started: list[Host] = []
        try:
            while len(started) < count:
                started.append(self.acquire())
        except HostDied as error:
            log.error("callable host does not start", error=str(error))
        for host in started:
            self.release(host)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for host in idle:
            self.discard(host)


pool = HostPool()
