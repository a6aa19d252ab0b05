"""The reaper: a tiny process that outlives a killed worker just long enough to end the processes of its runs.

A worker killed with -9 cannot end its children, and the runs they belong to are soon given to another worker. The
worker tells its reaper on a pipe who it is and how long it may be silent (`=MARK SECONDS`, 0 for ever), which groups it
leads (`+PID`, `-PID`) and that it lives (an empty line). When the pipe closes the worker is gone, and the reaper ends
what is left. A worker that is silent for too long is frozen, and its runs are about to be given away: the reaper ends
them too. Run as a plain script: it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

# In the environment of every run: which worker started it. A process that has left its group is found by it.
MARK = "SCHEDULER_WORKER"


def main() -> None:
    """Obey the lines on standard input until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark, longest = "", 0.0
    groups: set[int] = set()
    rest = b""
    while True:
        if longest and not select.select([0], [], [], longest)[0]:
            _end(groups, mark)
            select.select([0], [], [])
        data = os.read(0, 65536)
        if not data:
            break
        # What has no newline at its end was being written when the worker died.
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line[:1] == b"=":
                mark, _, seconds = line[1:].decode().partition(" ")
                longest = float(seconds)
            elif line[:1] == b"+":
                groups.add(int(line[1:]))
            elif line:
                groups.discard(int(line[1:]))
    _end(groups, mark)


def _end(groups: set[int], mark: str) -> None:
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> dict[int, str]:
    """{process id: run id} of all processes that carry the mark of this worker in their environment; Linux only."""
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*") if mark else ():
        # Gone meanwhile, or another user's.
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if wanted in variables:
                run = next((v for v in variables if v.startswith(b"SCHEDULER_RUN_ID=")), b"")
                found[int(folder.name)] = run.partition(b"=")[2].decode()
    return found


class Reaper:
    """The worker's side: starts the reaper process, again if it dies, and tells it of groups. Thread-safe."""

    def __init__(self) -> None:
        self.mark = ""
        self._longest = 0.0
        self._told_at = 0.0
        self._gave_up = False
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, mark: str, longest: float) -> None:
        """Start it ahead of the first run. `mark` stands in the environment of runs; after `longest` seconds
        without `beat` everything is ended."""
        with self._lock:
            self.mark, self._longest, self._gave_up = mark, longest, False
            self._told_at = time.monotonic()
            self._tell(self._introduction())

    @property
    def gave_up(self) -> bool:
        """Whether this worker was silent for so long that the reaper may have ended all its runs: what ended since has
        not ended by itself."""
        return self._gave_up or self._is_silent()

    def _is_silent(self) -> bool:
        return self._longest > 0 and time.monotonic() - self._told_at > self._longest

    def beat(self) -> None:
        """Say that this worker lives."""
        with self._lock:
            self._tell("\n")

    def add(self, pid: int) -> None:
        """Have the process group that `pid` leads ended if this worker dies."""
        with self._lock:
            self._groups.add(pid)
            self._tell(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        """Forget the group. Call it before the process is reaped: afterwards its number may be somebody else's."""
        with self._lock:
            if pid in self._groups:
                self._groups.discard(pid)
                self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Let the reaper end, and with it every group that was not removed."""
        with self._lock:
            self._groups.clear()
            self._drop()

    def _tell(self, line: str) -> None:
        self._gave_up = self.gave_up
        # Before it is said: its patience must not end later than we believe.
        self._told_at = time.monotonic()
        for _attempt in range(2):
            try:
                if self._process is None or self._process.poll() is not None:
                    self._start()
                    line = self._introduction() + "".join(f"+{pid}\n" for pid in sorted(self._groups))
                pipe = self._pipe()
                pipe.write(line.encode())
                pipe.flush()
                return
            except BrokenPipeError:
                self._drop()

    def _introduction(self) -> str:
        return f"={self.mark} {self._longest}\n"

    def _drop(self) -> None:
        """Give up the pipe to a reaper that has ended."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()

    def _start(self) -> None:
        self._drop()
        # In a session of its own, so that what kills the worker's group does not kill the reaper with it.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )

    def _pipe(self) -> IO[bytes]:
        assert self._process is not None and self._process.stdin is not None
        return self._process.stdin


reaper = Reaper()

if __name__ == "__main__":
    main()
