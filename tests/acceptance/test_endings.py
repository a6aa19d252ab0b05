"""Ends from outside, with real workers: nothing of a run outlives it, a killed worker leaves nothing but its story."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.work import RECOVERY_SECONDS, create_task, run_code, say, states, trigger
from tests.workers_app.jobs import is_alive
from workers_app.folders import root
from workers_app.marks import marked

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
# Each starts what lives long: in its group, outside of it, and without anything of its environment.
LEAVES = (
    "sleep 301 & setsid sleep 302 & setsid env -i sleep 303 & "
    "(setsid env -i sh -c 'setsid sleep 304 & exit' &) ; sleep 0.5; "
)
ALL_DEAD_SECONDS = 10
SHORT_LEASE = {"SCHEDULER_LEASE_SECONDS": "4", "SCHEDULER_HEARTBEAT_SECONDS": "1"}


def test_ten_seconds_after_a_run_is_over_none_of_its_processes_is_alive(stack, capsys):
    stack.dispatcher()
    stack.worker(concurrency=8, SCHEDULER_KILL_GRACE_SECONDS="1")
    endings = {
        "succeeds": LEAVES,
        "fails": LEAVES + "exit 3",
        "over its time": LEAVES + "sleep 300",
        "deaf": "trap '' TERM; " + LEAVES + "while :; do sleep 0.1; done",
        "cancelled": LEAVES + "sleep 300",
        "goes on": LEAVES + "sleep 300",
    }
    limits = {"over its time": 2, "deaf": 2}
    tasks = {
        name: create_task(stack, name, "shell", command, timeout_seconds=limits.get(name, 600))
        for name, command in endings.items()
    }
    trigger(stack, *((task, 1) for task in tasks.values()))
    (key,) = [str(key) for (key,) in stack.rows("select id from workers_app_worker")]
    runs = {
        name: id
        for id, name in stack.rows("select run.id, name from tasks_app_run run join tasks_app_task t on t.id = task_id")
    }

    def alive(name: str) -> set[int]:
        return {pid for pid, origin in marked(key).items() if origin == (runs[name], 1)}

    stack.wait_for(
        "what the runs have started", lambda: len(alive("goes on")) >= 6 and len(alive("cancelled")) >= 6, 30
    )
    cancel = (
        "from tasks_app.models import Run\nruns.cancel(actor, Run.objects.select_related('task').get(pk={}), now=now)"
    )
    run_code(stack, cancel.format(runs["cancelled"]))
    ended = {"succeeded": 1, "failed": 1, "timed_out": 2, "cancelled": 1, "running": 1}
    stack.wait_for("five ends", lambda: states(stack) == ended, RECOVERY_SECONDS)
    began = time.monotonic()
    stack.wait_for(
        "the end of all that they left", lambda: not any(alive(n) for n in endings if n != "goes on"), ALL_DEAD_SECONDS
    )
    assert len(alive("goes on")) >= 6, "a run under way keeps what is its own"
    say(capsys, f"all processes of five ended runs were gone {time.monotonic() - began:.1f} s after the last end")
    steps = dict(
        stack.rows("select run_id, string_agg(step, ' ' order by at, id) from tasks_app_endstep group by run_id")
    )
    assert steps == {
        runs["cancelled"]: "acknowledged term",
        runs["over its time"]: "term",
        runs["deaf"]: "term kill",
    }


def test_a_run_that_kills_its_workers_ends_in_quarantine_with_what_is_known_of_their_deaths(stack):
    stack.dispatcher()
    # Its parent is the worker. Of itself it holds 100 MB by then.
    hold = "python3 -S -c \"x = b'x' * (100 << 20); import os, time; print('held', flush=True); time.sleep(1.5)\""
    kills = f"echo before; ({hold}) & sleep 1.2; kill -9 $PPID; sleep 60"
    poison = create_task(stack, "poison", "shell", kills, retry_on_lost=True, poison_limit=2)
    stack.worker(concurrency=1, **SHORT_LEASE)
    trigger(stack, (poison, 1))
    first = "select attempt, state from tasks_app_run"
    stack.wait_for("the first death", lambda: stack.rows(first) == [(2, "queued")], RECOVERY_SECONDS)
    stack.worker(concurrency=1, **SHORT_LEASE)
    stack.wait_for("quarantine", lambda: stack.rows(first) == [(2, "quarantined")], RECOVERY_SECONDS)
    # The story of the second is brought in by the next worker of this host.
    stack.worker(concurrency=1)
    told = (
        "select attempt, signal, out_of_memory, run_peak_mb, worker_peak_mb from tasks_app_workerdeath order by attempt"
    )

    def both() -> list[tuple[Any, ...]] | None:
        rows = stack.rows(told)
        return rows if all(row[1] for row in rows) else None

    rows = stack.wait_for("both stories", both, 20)
    assert [row[:3] for row in rows] == [(1, 9, False), (2, 9, False)]
    assert all(100 <= run < 200 and 40 <= worker < 400 for *_rest, run, worker in rows)
    keys = [str(key) for (key,) in stack.rows("select id from workers_app_worker where state = 'lost'")]
    assert len(keys) == 2
    assert not [path for key in keys for path in [root() / key] if path.exists()], "and of their folders nothing"
    lines = run_code(
        stack,
        "from tasks_app import deaths\nfrom tasks_app.models import Run\nprint(deaths.last_lines(Run.objects.get()))",
    )
    assert "'before'" in lines


@pytest.mark.long
def test_a_crash_of_the_interpreter_is_told_with_its_signal_and_where_it_was(stack):
    stack.dispatcher()
    once = create_task(stack, "once", "shell", "kill -SEGV $PPID; sleep 60")
    stack.worker(concurrency=1, **SHORT_LEASE)
    trigger(stack, (once, 1))
    stack.wait_for("the loss", lambda: states(stack) == {"lost": 1}, RECOVERY_SECONDS)
    stack.worker(concurrency=1)
    told = "select signal, last_words from tasks_app_workerdeath where signal is not null"
    ((signal, words),) = stack.wait_for("its story", lambda: stack.rows(told), 20)
    assert signal == 11 and "Segmentation fault" in words and "File" in words


def test_the_folder_of_a_run_goes_with_its_killed_worker(stack):
    stack.dispatcher()
    worker = stack.worker(concurrency=1)
    writes = create_task(stack, "writes", "shell", "echo data > file; echo $TMPDIR; sleep 300")
    trigger(stack, (writes, 1))
    said = "select lines->0->>2 from tasks_app_runoutput"
    ((folder,),) = stack.wait_for("its folder", lambda: stack.rows(said), RECOVERY_SECONDS)
    assert (Path(folder) / "file").exists() and Path(folder).is_relative_to(Path(tempfile.gettempdir()))
    (key,) = [str(key) for (key,) in stack.rows("select id from workers_app_worker")]
    pids = set(marked(key))
    worker.kill()
    stack.wait_for("its end", lambda: not Path(folder).exists() and not any(map(is_alive, pids)), 10)
