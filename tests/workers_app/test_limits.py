"""Limits of a single run: who is over one is ended and says so, and nobody beside it."""

from __future__ import annotations

import gc
import mmap
import os
import sys
import threading
import time

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app.jobs import make_job, run
from tests.workers_app.test_hosts import Calls, warm  # noqa: F401  (a fixture)
from workers_app import reaper
from workers_app.executors import shell
from workers_app.jobs import Control
from workers_app.limits import MB, Limits
from workers_app.usage import Usage, usage

HOLD = "x = b'x' * ({mb} << 20); import time; time.sleep({seconds})"
SPIN = "while :; do :; done"
OPEN = "files = [open('/dev/null') for _ in range(100)]"


@pytest.fixture(autouse=True)
def _quick(settings, monkeypatch):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 0.5
    monkeypatch.setattr(reaper.reaper, "mark", f"limits-{os.getpid()}")


def python(code: str) -> str:
    return f'{sys.executable} -S -c "{code}"'


def result_of(command: str, **limits: int):
    started = time.monotonic()
    result, _lines = run(shell.execute, make_job(command, limits=Limits(**limits)))
    assert time.monotonic() - started < 15
    return result


@pytest.mark.parametrize(
    "command",
    [
        python(HOLD.format(mb=200, seconds=20)),
        " & ".join([python(HOLD.format(mb=50, seconds=20))] * 3) + " & wait",
        f"setsid env -i {python(HOLD.format(mb=200, seconds=20))} & sleep 20",
    ],
    ids=["one process", "several together", "one that has left"],
)
def test_a_run_that_holds_too_much_memory_is_killed_and_says_so(command):
    result = result_of(command, memory_mb=100)
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.MEMORY_LIMIT, True)
    assert "its limit is 100 MB" in result.detail


@pytest.mark.parametrize("command", [SPIN, f"({SPIN}) & ({SPIN}) & wait", f"setsid env -i sh -c '{SPIN}' & wait"])
def test_a_run_that_uses_too_much_processor_time_is_ended_and_says_so(command):
    result = result_of(command, cpu_seconds=1)
    assert (result.state, result.reason) == (RunState.FAILED, Reason.CPU_LIMIT)
    assert "its limit is 1 s" in result.detail


def test_a_run_that_is_refused_files_or_memory_says_so_and_only_where_it_has_a_limit():
    assert result_of(python(OPEN), open_files=32).reason == Reason.OPEN_FILES_LIMIT
    assert result_of(python("x = bytearray(1 << 40)"), memory_mb=64).reason == Reason.MEMORY_LIMIT
    other = "echo 'Too many open files: MemoryError' >&2; exit 1"
    assert result_of(other, cpu_seconds=30).reason == Reason.EXIT_CODE
    assert result_of(other).reason == Reason.EXIT_CODE


def test_a_run_within_its_limits_is_not_touched():
    command = python(OPEN.replace("100", "20") + "; x = b'x' * (20 << 20)")
    assert result_of(command, memory_mb=100, cpu_seconds=20, open_files=64).state is RunState.SUCCEEDED


def test_the_watch_ends_one_of_two_runs_and_then_itself():
    results = {}

    def execute(name: str, mb: int) -> None:
        job = make_job(python(HOLD.format(mb=mb, seconds=1.5)), run_id=mb, limits=Limits(memory_mb=100))
        results[name] = run(shell.execute, job)[0].reason

    threads = [threading.Thread(target=execute, args=each) for each in (("small", 20), ("large", 300))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"small": Reason.NONE, "large": Reason.MEMORY_LIMIT}
    watch = usage._thread
    if watch is not None:
        watch.join(5)
    assert usage._thread is None, "nothing is looked at where nothing has a limit"


def test_memory_that_processes_share_is_not_counted_for_each():
    def held() -> float:
        return Usage().look({os.getpgrp(): (1, 1)})[1, 1].bytes / MB

    before = held()
    with mmap.mmap(-1, 64 * MB) as shared:
        shared.write(b"x" * MB * 64)
        gc.collect()
        assert held() < before + 32
    private = b"x" * MB * 64
    assert held() > before + 48
    del private


@pytest.mark.parametrize(
    ("name", "params", "limits", "reason"),
    [
        ("hold", {"mb": 400}, {"memory_mb": 300}, Reason.MEMORY_LIMIT),
        ("hold", {"mb": 1 << 20}, {"memory_mb": 300}, Reason.MEMORY_LIMIT),
        ("spin", {}, {"cpu_seconds": 1}, Reason.CPU_LIMIT),
        ("open_files", {"number": 100}, {"open_files": 64}, Reason.OPEN_FILES_LIMIT),
        ("open_files", {"number": 100}, {"open_files": 256, "memory_mb": 500, "cpu_seconds": 60}, Reason.NONE),
    ],
)
def test_limits_hold_for_callables_and_not_for_the_next_call(warm, name, params, limits, reason):  # noqa: F811
    calls = Calls(warm, (name, params), ("open_files", {"number": 200}))
    calls.actives[0].job = make_job(
        calls.actives[0].job.command, executor="callable", run_id=0, params=params, limits=Limits(**limits)
    )
    limited, free = calls.start().join()
    assert limited.reason == reason
    assert free.state is RunState.SUCCEEDED


@pytest.mark.parametrize("why", [Control.CANCEL, Control.KILL, Control.LOST])
def test_what_somebody_asked_before_counts(why):
    control = Control()
    control.end(why)
    control.end(Control.CPU, "too long")
    assert control.why == why
