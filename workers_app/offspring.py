"""What the calls of a warm host have started: it comes back to the host when its parent ends, and is ended there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_SECONDS = 2.0


class Offspring:
    """The children of this process. What its modules have started on import belongs to the process, not to a call."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._own = _children()

    def end(self) -> None:
        """End all others, and theirs: of one that is killed the children become ours, so that we look again."""
        if not _has_children():
            return
        end = time.monotonic() + _LONGEST_SECONDS
        while (rest := _children() - self._own) and time.monotonic() < end:
            for pid in rest:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def _has_children() -> bool:
    """Asked after every call; it costs a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children() -> set[int]:
    found: set[int] = set()
    for thread in Path("/proc/self/task").glob("*/children"):
        # Gone meanwhile, or a kernel that does not tell.
        with contextlib.suppress(OSError):
            found.update(map(int, thread.read_text().split()))
    return found
