"""Processes that left their run: children that called setsid and were not in the group that was ended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection

import structlog

from workers_app.marks import Origin, marked
from workers_app.reaper import reaper

log = structlog.get_logger("worker")


def end_strays(active: Callable[[], Collection[Origin]]) -> int:
    """End every process that carries this worker's mark and whose run is not under way. Returns how many.

    `active` is asked after the look at the processes, so that a run which has just been claimed is not taken for one
    that is over.
    """
    found = marked(reaper.mark)
    under_way = active() if found else ()
    strays = {pid: origin for pid, origin in found.items() if origin not in under_way}
    for pid, (run, attempt) in strays.items():
        log.warning("ending a process that outlived its run", run=run, attempt=attempt, pid=pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(strays)


def signal_escaped(origin: Origin, leader: int, number: int) -> None:
    """Send a signal to the processes of the run that are no longer in the group of its leader."""
    for pid, found in marked(reaper.mark).items():
        if found == origin:
            with contextlib.suppress(OSError):
                if os.getpgid(pid) != leader:
                    os.kill(pid, number)
