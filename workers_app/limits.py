"""What one run may use: memory, time on the processors, open files."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass

from tasks_app.states import Reason

MB = 1024 * 1024
MOST_FILES = 65536
# Memory that is held is watched, and what is merely mapped may be many times that. This bounds what a process can take
# between two looks.
_WALL_TIMES, _WALL_MORE = 4, 256 * MB
# The same for time on the processors: the watch ends a run before.
_CPU_MORE = 5
_NO_MEMORY = (b"MemoryError", b"Cannot allocate memory", b"bad_alloc", b"OutOfMemory", b"ut of memory")
_NO_FILES = (b"Too many open files",)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a whole run with all its processes, but for `open_files`, which is for each process. None is no limit."""

    memory_mb: int | None = None
    cpu_seconds: int | None = None
    open_files: int | None = None

    def __bool__(self) -> bool:
        return self.watched or self.open_files is not None

    @property
    def watched(self) -> bool:
        """Whether there is one that we have to look after ourselves."""
        return self.memory_mb is not None or self.cpu_seconds is not None

    def of_system(self) -> list[tuple[int, int, int]]:
        """The resource limits (which, soft, hard) that the system keeps for each process."""
        found = []
        if self.memory_mb is not None:
            wall = self.memory_mb * MB * _WALL_TIMES + _WALL_MORE
            found.append((resource.RLIMIT_DATA, wall, wall))
        if self.cpu_seconds is not None:
            found.append((resource.RLIMIT_CPU, self.cpu_seconds + _CPU_MORE, self.cpu_seconds + 2 * _CPU_MORE))
        if self.open_files is not None:
            found.append((resource.RLIMIT_NOFILE, self.open_files, self.open_files))
        return found

    def put_on(self, pid: int) -> None:
        """Set them for a process that has not begun to work; one that the system holds lower already stays so."""
        for which, soft, hard in self.of_system():
            with contextlib.suppress(OSError, ValueError):
                resource.prlimit(pid, which, (soft, hard))

    def refused(self, last_words: bytes) -> tuple[Reason, str] | None:
        """Which limit a run that failed had met, by what it said of it on stderr."""
        if self.memory_mb is not None and any(words in last_words for words in _NO_MEMORY):
            return Reason.MEMORY_LIMIT, f"It was refused more memory; its limit is {self.memory_mb} MB."
        if self.open_files is not None and any(words in last_words for words in _NO_FILES):
            return Reason.OPEN_FILES_LIMIT, f"It was refused another open file; its limit is {self.open_files}."
        return None


def raise_file_limit() -> None:
    """A run holds up to seven open files. Runs inherit the limit, and some programs close every number up to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
