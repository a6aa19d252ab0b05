"""The reaper: a tiny process that outlives a killed worker just long enough to end the process groups of its runs.

A worker killed with -9 cannot end its children, and the runs they belong to are soon given to another worker. The
worker tells its reaper on a pipe which groups it leads (`+PID`, `-PID`); when the pipe closes, the worker is gone and
the reaper ends what is left. Run as a plain script: it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import IO


def main() -> None:
    """Read lines until the pipe closes, then send KILL to every group that is still named."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        if line[:1] == b"+":
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


class Reaper:
    """The worker's side: starts the reaper process, again if it dies, and tells it of groups. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, pid: int) -> None:
        """Have the process group that `pid` leads ended if this worker dies."""
        with self._lock:
            self._groups.add(pid)
            self._tell(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        with self._lock:
            self._groups.discard(pid)
            self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Let the reaper end, and with it every group that was not removed."""
        with self._lock:
            if self._process is not None:
                with contextlib.suppress(OSError):
                    self._pipe().close()
                self._process.wait()
                self._process = None

    def _tell(self, line: str) -> None:
        for _attempt in range(2):
            try:
                if self._process is None or self._process.poll() is not None:
                    self._start()
                    line = "".join(f"+{pid}\n" for pid in sorted(self._groups))
                pipe = self._pipe()
                pipe.write(line.encode())
                pipe.flush()
                return
            except BrokenPipeError:
                self._process = None

    def _start(self) -> None:
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
