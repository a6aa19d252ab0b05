"""Processes that left their run: children that called setsid and were not in the group that was ended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container

import structlog

from workers_app.reaper import marked, reaper

log = structlog.get_logger("worker")


def end_strays(active: Container[int]) -> int:
    """End every process that carries this worker's mark and whose run is not among the `active` ones. Returns how many.

    A process that was started for a run keeps its environment, and with it the mark, wherever it goes. `active` is
    asked after the look at the processes, so that a run which has just been claimed is not taken for one that is over.
    """
    strays = {pid: run for pid, run in marked(reaper.mark).items() if run.isdigit() and int(run) not in active}
    for pid, run in strays.items():
        log.warning("ending a process that outlived its run", run=int(run), pid=pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(strays)
