"""What dead workers of this host have left: folders to be removed, and what there is to be known of their deaths."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from uuid import UUID

import structlog

from tasks_app import deaths
from tasks_app.deaths import Cause
from workers_app import folders
from workers_app.models import Worker

log = structlog.get_logger("worker")
FOREIGN_SECONDS = 24 * 3600


def own_folder(worker: str) -> Path | None:
    """Open the folder for the folders of this worker's runs; None where the disk does not let us."""
    try:
        return folders.folder.open(worker)
    except OSError as error:
        log.warning("runs work in folders that a killed worker leaves behind", error=str(error))
        return None


def collect() -> int:
    """Write down why workers of this host died, as far as their reapers could tell, and remove what they left.

    Returns how many. What belongs to a worker whose runs are not judged yet is left for the next time.
    """
    try:
        return _collect()
    except OSError as error:
        log.warning("what dead workers left cannot be removed", error=str(error))
        return 0


def _collect() -> int:
    gone = 0
    for path in folders.abandoned():
        worker, cause = _worker(path), _cause(path / folders.DEATH)
        if worker is not None and cause is not None:
            if not _is_known(worker):
                # Of another installation on this host, which wants to know it; or of one that is no more.
                if time.time() - (path / folders.DEATH).stat().st_mtime < FOREIGN_SECONDS:
                    continue
            elif not deaths.explain(worker, cause):
                continue
            log.warning("a worker of this host has died", worker=str(worker), signal=cause.signal)
        shutil.rmtree(path, ignore_errors=True)
        gone += 1
    return gone


def _is_known(worker: UUID) -> bool:
    return Worker.objects.filter(pk=worker).exists()


def _worker(path: Path) -> UUID | None:
    try:
        return UUID(path.name)
    except ValueError:
        return None


def _cause(path: Path) -> Cause | None:
    try:
        told = json.loads(path.read_text())
        return Cause(
            signal=told["signal"],
            out_of_memory=told["out_of_memory"],
            peak_mb=told["peak_mb"],
            peaks_of_runs={int(run): peak for run, peak in told["runs"].items()},
            last_words=told["words"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # The host itself went down, or its disk is full.
        return None
