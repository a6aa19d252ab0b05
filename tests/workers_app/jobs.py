"""Jobs to execute, and what is left of them, for tests of the workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers_app.jobs import Control, Job, Result
from workers_app.output import OutputSink


def make_job(command: str = "true", **fields: Any) -> Job:
    values = {
        "run_id": 1,
        "attempt": 1,
        "version_id": 1,
        "task_name": "test",
        "executor": "shell",
        "params": {},
        "timeout_seconds": 30.0,
        "nominal_at": None,
    }
    return Job(command=command, **{**values, **fields})


def run(
    execute: Callable[[Job, Control, OutputSink], Result], job: Job, control: Control | None = None
) -> tuple[Result, list[str]]:
    """Execute the job here and now: its result and its lines of output."""
    sink = OutputSink(job.run_id, job.attempt, job.masks)
    control = control or Control()
    try:
        return execute(job, control, sink), texts(sink)
    finally:
        control.close()


def texts(sink: OutputSink) -> list[str]:
    return [text for row in sink.drain() for _at, _stream, text in row["lines"]]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(is_so: Callable[[], Any], seconds: float = 10.0) -> bool:
    """Ask again until it is so; False when it is not in time."""
    end = time.monotonic() + seconds
    while not (answer := bool(is_so())) and time.monotonic() < end:
        time.sleep(0.02)
    return answer


def _open_files() -> set[str]:
    # Looking opens one itself.
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}


@contextmanager
def no_new_files() -> Iterator[None]:
    """What happens in the block leaves no file open."""
    before = _open_files()
    yield
    assert wait_until(lambda: _open_files() <= before), "files left open"
