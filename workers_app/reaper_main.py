"""The reaper: a tiny process that outlives a killed worker just long enough to end the processes of its runs.

A worker killed with -9 cannot end its children, and the runs they belong to are soon given to another worker. The
worker tells its reaper on a pipe, a line each: who it is, how long it may be silent and where its folder is
(`=MARK SECONDS FOLDER`, 0 for ever), which groups it leads (`+PID`, `-PID`), which commands end what is no process of
its own (`!NAME [COMMANDS, VARIABLES]`, `?NAME`), that it lives (an empty line) and that it leaves (`.`). Anything else
is what the interpreter says of a crash. When the pipe closes the worker is gone, and the reaper ends what is left; of
one that did not leave, it keeps in the folder what there is to be known of its death. A worker that is silent for too
long is frozen, and its runs are about to be given away: the reaper ends them too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from workers_app.folders import DEATH, hold
from workers_app.marks import marked

MOST_WORDS = 60
WILL_SECONDS = 20.0
# As Python's faulthandler says it.
CRASHES = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Floating-point exception": signal.SIGFPE,
    "Floating point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
}


class Watch:
    """What the worker has told, and what can be seen of it."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.has_left = False
        self._mark = ""
        self._folder: Path | None = None
        self._held: int | None = None
        self._groups: set[int] = set()
        self._wills: dict[str, tuple[list[list[str]], dict[str, str]]] = {}
        self._worker = os.getppid()
        self._words: list[str] = []
        self._peak: int | None = None
        self._looked_at = 0.0
        # How often the kernel has ended a process for want of memory, at the last looks.
        self._kills: deque[int | None] = deque([kills_for_memory()], maxlen=2)

    def hear(self, line: bytes) -> None:
        if line[:1] == b"=":
            self._mark, seconds, folder = line[1:].decode().split(" ", 2)
            self.longest = float(seconds)
            self._hold(Path(folder) if folder else None)
        elif line[:1] == b"+":
            self._groups.add(int(line[1:]))
        elif line[:1] == b"-":
            self._groups.discard(int(line[1:]))
        elif line[:1] == b"!":
            name, will = line[1:].decode().split(" ", 1)
            commands, variables = json.loads(will)
            self._wills[name] = (commands, variables)
        elif line[:1] == b"?":
            self._wills.pop(line[1:].decode(), None)
        elif line == b".":
            self.has_left = True
        elif line:
            self._words.append(line.decode(errors="replace"))
            del self._words[:-MOST_WORDS]

    def look(self) -> None:
        """Note how the worker is, once a second at most."""
        if time.monotonic() - self._looked_at >= 1:
            self._looked_at = time.monotonic()
            self._peak = peak_mb(self._worker) or self._peak
            self._kills.append(kills_for_memory())

    def end_all(self) -> dict[int, int]:
        """Kill the groups, and what has left them. Returns the most memory that runs have held, in MB."""
        peaks: dict[int, int] = {}
        found = marked(self._mark)
        for pid, (run, _attempt) in found.items():
            peaks[run] = peaks.get(run, 0) + (peak_mb(pid) or 0)
        for group in self._groups:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        for pid in found.keys() | marked(self._mark).keys():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._execute_wills()
        return peaks

    def _execute_wills(self) -> None:
        """All at once, each with its commands in order: what is behind one of them may not answer for long."""
        wills, self._wills = list(self._wills.values()), {}
        threads = [threading.Thread(target=_execute, args=will, daemon=True) for will in wills]
        for thread in threads:
            thread.start()
        end = time.monotonic() + WILL_SECONDS
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))

    def clean_up(self, peaks: dict[int, int]) -> None:
        """Empty the folder; what a worker that left has closed itself is gone already."""
        if self._folder is None:
            return
        if self.has_left:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for path in self._folder.glob("run-*"):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._folder / DEATH).write_text(json.dumps(self._death(peaks)))

    def _death(self, peaks: dict[int, int]) -> dict[str, Any]:
        words = "\n".join(self._words)
        before, now = self._kills[0], kills_for_memory()
        named = (number for text, number in CRASHES.items() if text in words)
        return {
            # Nothing else leaves no word.
            "signal": next(named, signal.SIGKILL if not words else None),
            "out_of_memory": None if before is None or now is None else now > before,
            "peak_mb": self._peak,
            "runs": {run: peak for run, peak in peaks.items() if run},
            "words": words,
        }

    def _hold(self, folder: Path | None) -> None:
        if folder is not None and self._held is None:
            # Gone with a worker that ended meanwhile.
            with contextlib.suppress(OSError):
                self._held = hold(folder)
                self._folder = folder


def _execute(commands: list[list[str]], variables: dict[str, str]) -> None:
    for command in commands:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=WILL_SECONDS,
                check=False,
            )


def peak_mb(pid: int) -> int | None:
    """The most memory that the process has held, in MB; None for one that is gone."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
    return None


def kills_for_memory() -> int | None:
    """How often the kernel has ended a process for want of memory: in our container where it says so, else here."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split(" ", 1) for line in Path(path).read_text().splitlines())
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return None


def main() -> None:
    """Obey the lines on standard input until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch = Watch()
    rest = b""
    while True:
        if watch.longest and not select.select([0], [], [], watch.longest)[0]:
            watch.end_all()
            select.select([0], [], [])
        data = os.read(0, 65536)
        if not data:
            break
        # What has no newline at its end was being written when the worker died.
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            watch.hear(line)
        watch.look()
    watch.clean_up(watch.end_all())


if __name__ == "__main__":
    main()
