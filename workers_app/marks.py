"""How the processes of a run are known wherever they go: by a variable of their environment, and by a resource limit.

A process that calls setsid has left its group, one that was started by `env -i` has lost its environment. Its resource
limits it keeps, and hands them on to all that it starts. One of them we use as a mark: the limit of time on a processor
for real-time work. It is set to tens of thousands of years, and the exact number says whose process it is. Without
privileges nobody can raise a hard limit again. Linux only; imports nothing of ours, the reaper needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
from pathlib import Path

# In the environment of every run: which worker started it.
MARK = "SCHEDULER_WORKER"
# (run id, attempt); run 0 is a warm host of the worker, with the number of the host for the attempt.
Origin = tuple[int, int]
_HARD, _SOFT, _ATTEMPT_BITS = 1 << 62, 1 << 61, 16


def limit_of(worker: str, origin: Origin) -> tuple[int, int]:
    """The soft and the hard limit that say: started by this worker for this attempt of this run."""
    run, attempt = origin
    digest = int.from_bytes(hashlib.sha256(worker.encode()).digest()[:8], "big")
    return _SOFT | run << _ATTEMPT_BITS | attempt & 0xFFFF, _HARD | digest & (_HARD - 1)


def put_mark(pid: int, worker: str, origin: Origin) -> None:
    """Mark a process that has not begun to work; where the system refuses, its environment must do."""
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_RTTIME, limit_of(worker, origin))


def origin_of(pid: int, worker: str) -> Origin | None:
    """For which run the worker has marked the process, or one that it comes from; None: for none. Raises OSError."""
    return _by_limit(Path(f"/proc/{pid}"), limit_of(worker, (0, 0))[1]) if worker else None


def marked(worker: str) -> dict[int, Origin]:
    """{process id: for which run} of all processes that carry the mark of this worker; none without a worker."""
    if not worker:
        return {}
    hard = limit_of(worker, (0, 0))[1]
    variable = f"{MARK}={worker}".encode()
    found: dict[int, Origin] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        # Gone meanwhile, or another user's.
        with contextlib.suppress(OSError, ValueError, IndexError):
            origin = _by_limit(folder, hard) or _by_environment(folder, variable)
            if origin is not None:
                found[int(folder.name)] = origin
    return found


def _by_limit(folder: Path, hard: int) -> Origin | None:
    text = (folder / "limits").read_bytes()
    number = str(hard).encode()
    if number not in text:
        return None
    words = text.partition(b"Max realtime timeout")[2].split(maxsplit=2)
    # One that waits to be reaped still has its limits.
    if words[1] != number or (folder / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
        return None
    return divmod(int(words[0]) & (_SOFT - 1), 1 << _ATTEMPT_BITS)


def _by_environment(folder: Path, variable: bytes) -> Origin | None:
    variables = (folder / "environ").read_bytes().split(b"\0")
    if variable not in variables:
        return None
    values = dict(entry.split(b"=", 1) for entry in variables if b"=" in entry)
    return int(values.get(b"SCHEDULER_RUN_ID", b"0")), int(values.get(b"SCHEDULER_ATTEMPT", b"0"))
