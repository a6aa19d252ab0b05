"""The folder of a worker on its host: those of its runs lie in it, and nothing of it stays when the worker is gone.

Whoever lives holds a shared lock on it, the worker and its reaper. One that nobody holds is left over from both.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

LOCK = "lock"
# What the reaper has written down of the death of its worker.
DEATH = "death.json"


class WorkerFolder:
    """Where the runs of this process work. Before `open` they work in folders beside each other, as best we can."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._lock = -1
        self._opening = threading.Lock()

    def open(self, worker: str) -> Path:
        """Make the folder and hold it. Raises OSError where the system's folder for temporary files is of no use."""
        with self._opening:
            final = root() / worker
            # Under another name until it is held, so that nobody takes it for left over.
            fresh = Path(tempfile.mkdtemp(prefix=".", dir=root()))
            self._lock = hold(fresh)
            fresh.rename(final)
            self.path = final
            return final

    def of_run(self, run_id: int) -> Path:
        """A new empty folder for an attempt of the run; the caller removes it."""
        return Path(tempfile.mkdtemp(prefix=f"run-{run_id}-", dir=self.path))

    def close(self) -> None:
        """Remove it."""
        with self._opening:
            path, self.path = self.path, None
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(self._lock)


def root() -> Path:
    """Where the workers of this account have their folders. Raises PermissionError when it is somebody else's."""
    path = Path(tempfile.gettempdir()) / f"scheduler-workers-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    # A folder for everybody's temporary files: somebody may have been here before us, with a link to elsewhere.
    if found.st_uid != os.geteuid() or path.is_symlink() or not path.is_dir():
        raise PermissionError(f"{path} belongs to somebody else; remove it, or set TMPDIR for the worker.")
    return path


def hold(path: Path, how: int = fcntl.LOCK_SH) -> int:
    """Lock the folder for as long as the answered file is open. Raises OSError when others hold it the other way."""
    fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def abandoned() -> Iterator[Path]:
    """The folders of workers that are gone, one after the other; each is ours alone meanwhile."""
    for path in root().iterdir():
        # One that is being made, or removed by another worker.
        if path.name.startswith("."):
            continue
        with contextlib.suppress(OSError):
            lock = hold(path, fcntl.LOCK_EX)
            try:
                yield path
            finally:
                os.close(lock)


folder = WorkerFolder()
