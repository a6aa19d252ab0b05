"""Looks after what runs use, for those that have a limit: one look at all processes of the host serves all of them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import structlog

from workers_app.jobs import Control
from workers_app.limits import MB, Limits
from workers_app.marks import Origin, origin_of
from workers_app.reaper import reaper

log = structlog.get_logger(__name__)
LOOK_SECONDS = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Used:
    """What the processes of a run hold and have used, together."""

    bytes: int = 0
    cpu_seconds: float = 0.0


@dataclass(slots=True)
class Watched:
    """A run with a limit. `since` is the processor time used before it, None: what the first look finds."""

    origin: Origin
    leader: int
    limits: Limits
    control: Control
    since: float | None = 0.0

    def judge(self, used: Used) -> None:
        """End the run when it is over a limit."""
        if self.since is None:
            self.since = used.cpu_seconds
        limits, seconds = self.limits, used.cpu_seconds - self.since
        if limits.memory_mb is not None and used.bytes > limits.memory_mb * MB:
            text = f"It held {used.bytes / MB:.0f} MB of memory; its limit is {limits.memory_mb} MB (memory_limit_mb)."
            self.control.end(Control.MEMORY, text)
        elif limits.cpu_seconds is not None and seconds >= limits.cpu_seconds:
            text = (
                f"It used {seconds:.0f} s of processor time; its limit is {limits.cpu_seconds} s (cpu_limit_seconds)."
            )
            self.control.end(Control.CPU, text)


class Usage:
    """The watch of one worker process. Its thread lives while there is something to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[Origin, Watched] = {}
        self._thread: threading.Thread | None = None
        # A process keeps its mark from its start to its end.
        self._origins: dict[tuple[int, bytes], Origin | None] = {}

    def watch(self, watched: Watched) -> None:
        """Look after it until `forget`."""
        with self._lock:
            self._watched[watched.origin] = watched
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="usage", daemon=True)
                self._thread.start()

    def forget(self, watched: Watched) -> None:
        with self._lock:
            if self._watched.get(watched.origin) is watched:
                del self._watched[watched.origin]

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                watched = list(self._watched.values())
                if not watched:
                    self._thread = None
                    return
            try:
                used = self.look({one.leader: one.origin for one in watched})
                for one in watched:
                    one.judge(used[one.origin])
            except Exception:
                log.exception("a look at what runs use failed")
            pause.wait(LOOK_SECONDS)

    def look(self, leaders: dict[int, Origin]) -> dict[Origin, Used]:
        """What is used now by the processes with a mark of this worker, or in the group of one of the leaders."""
        found: dict[Origin, Used] = defaultdict(Used)
        seen: dict[tuple[int, bytes], Origin | None] = {}
        for name in os.listdir("/proc"):  # noqa: PTH208  (a thousand paths five times a second are not made for show)
            if not name.isdigit():
                continue
            # Gone meanwhile.
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                key = (int(name), fields[19])
                origin = seen[key] = self._origins[key] if key in self._origins else origin_of(int(name), reaper.mark)
                origin = origin or leaders.get(int(fields[2]))
                if origin is not None:
                    one = found[origin]
                    _size, resident, shared, *_rest = Path(f"/proc/{name}/statm").read_bytes().split()
                    one.bytes += (int(resident) - int(shared)) * _PAGE
                    one.cpu_seconds += sum(map(int, fields[11:15])) / _TICKS
        self._origins = seen
        return found


usage = Usage()
