"""The worker's side of the reaper, workers_app.reaper_main: starts it, again if it dies, and tells it of groups."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).resolve().parent.parent


class Reaper:
    """Thread-safe."""

    def __init__(self) -> None:
        self.mark = ""
        self._longest = 0.0
        self._told_at = 0.0
        self._gave_up = False
        self._folder = ""
        self._crashes = False
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._wills: dict[str, list[list[str]]] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, mark: str, longest: float, folder: Path | None = None) -> None:
        """Start it ahead of the first run. `mark` is on the processes of all runs; after `longest` seconds without
        `beat` everything is ended; `folder` is removed when this worker is gone."""
        with self._lock:
            self.mark, self._longest, self._folder, self._gave_up = mark, longest, str(folder or ""), False
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

    def bequeath(self, name: str, commands: list[list[str]]) -> None:
        """Have these commands executed, one after the other, if this worker dies: for what is no process of ours."""
        with self._lock:
            self._wills[name] = commands
            self._tell(_will(name, commands))

    def take_back(self, name: str) -> None:
        """Forget the commands of that name."""
        with self._lock:
            if self._wills.pop(name, None) is not None:
                self._tell(f"?{name}\n")

    def hear_crashes(self) -> None:
        """Have the interpreter tell the reaper when it crashes."""
        with self._lock:
            self._crashes = True
            self._tell("\n")
            self._pass_on_crashes()

    def close(self) -> None:
        """Leave: the reaper ends, and with it every group that was not removed."""
        with self._lock:
            self._groups.clear()
            self._wills.clear()
            if self._process is not None:
                self._tell(".\n")
            self._drop()

    def _tell(self, line: str) -> None:
        self._gave_up = self.gave_up
        # Before it is said: its patience must not end later than we believe.
        self._told_at = time.monotonic()
        for _attempt in range(2):
            try:
                if self._process is None or self._process.poll() is not None:
                    self._start()
                    line = self._introduction() + self._all_told()
                pipe = self._pipe()
                pipe.write(line.encode())
                pipe.flush()
                return
            except BrokenPipeError:
                self._drop()

    def _introduction(self) -> str:
        return f"={self.mark} {self._longest} {self._folder}\n"

    def _all_told(self) -> str:
        groups = "".join(f"+{pid}\n" for pid in sorted(self._groups))
        return groups + "".join(_will(name, commands) for name, commands in self._wills.items())

    def _drop(self) -> None:
        """Give up the pipe to a reaper that has ended."""
        process, self._process = self._process, None
        if self._crashes:
            faulthandler.disable()
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()

    def _start(self) -> None:
        self._drop()
        # In a session of its own, so that what kills the worker's group does not kill the reaper with it.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-m", "workers_app.reaper_main"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )
        self._pass_on_crashes()

    def _pass_on_crashes(self) -> None:
        if self._crashes:
            faulthandler.enable(self._pipe(), all_threads=False)

    def _pipe(self) -> IO[bytes]:
        assert self._process is not None and self._process.stdin is not None
        return self._process.stdin


def _will(name: str, commands: list[list[str]]) -> str:
    # The environment of the worker, as the reaper has none: there it stands where the server of the commands is.
    return f"!{name} {json.dumps([commands, dict(os.environ)])}\n"


reaper = Reaper()
