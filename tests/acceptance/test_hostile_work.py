"""Work that means harm, faults below it and a stop in the middle: the rest of the runs must not feel it."""

from __future__ import annotations

import gzip
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu import Connection, Producer

from scripts.probes import RABBITMQ
from tests.acceptance.work import LONG, NOOP, RECOVERY_SECONDS, create_task, say, states, trigger
from tests.services import Child, ProcessStack
from workers_app import messages
from workers_app.marks import marked

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
ATTEMPTS_OF_ONE = "select count(*) from tasks_app_run where attempt <> 1"


def workers(stack: ProcessStack) -> list[str]:
    return [str(key) for (key,) in stack.rows("select id from workers_app_worker")]


def resident(child: Child) -> float:
    """Megabytes of memory that the process holds."""
    return float(psutil.Process(child.process.pid).memory_info().rss / 2**20)


def most_resident(child: Child) -> float:
    """The most megabytes that the process has held since its start: a bubble has burst by the time one looks."""
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def test_floods_garbage_and_runaways_harm_neither_their_worker_nor_the_runs_beside_them(stack, capsys):
    floods = {"yes": "yes", "zeros": "cat /dev/zero", "noise": "cat /dev/urandom"}
    hostile = {
        "one line": "head -c 300000000 /dev/zero | tr '\\0' x",
        "nested": "python3 -c 'print(chr(91) * 900 + chr(93) * 900)'",
        "runaway": "setsid sleep 300 >/dev/null 2>&1 & setsid env -i sleep 300 >/dev/null 2>&1 & echo gone",
        "suicide": "kill -9 $$",
        "signals everybody it can": "kill -TERM 0; sleep 300",
    }
    stack.dispatcher()
    worker = stack.worker(concurrency=10)
    tasks = [create_task(stack, name, "shell", command, timeout_seconds=4) for name, command in floods.items()]
    tasks += [create_task(stack, name, "shell", command, timeout_seconds=60) for name, command in hostile.items()]
    normal = create_task(stack, "normal", "shell", "echo fine")
    before = resident(worker)
    trigger(stack, *((task, 1) for task in tasks), (normal, 30))
    stack.wait_for("every end", lambda: set(states(stack)) <= {"succeeded", "failed", "timed_out"}, 60)
    ended = dict(
        stack.rows("select task.name, run.state from tasks_app_run run join tasks_app_task task on task.id = task_id")
    )
    assert ended == {
        "yes": "timed_out",
        "zeros": "timed_out",
        "noise": "timed_out",
        "one line": "succeeded",
        "nested": "succeeded",
        "runaway": "succeeded",
        "suicide": "failed",
        "signals everybody it can": "failed",
        "normal": "succeeded",
    }
    assert states(stack)["succeeded"] == 33
    assert stack.rows("select state from workers_app_worker") == [("online",)]
    (key,) = workers(stack)
    stack.wait_for("the end of what left its run", lambda: not marked(key), 10)
    grown = most_resident(worker) - before
    largest = stack.value(
        "select max(bytes) from (select sum(length(lines::text)) as bytes from tasks_app_runoutput group by run_id) o"
    )
    assert grown < 150, "memory stays flat"
    assert largest < 8 * 2**20
    say(
        capsys, f"floods of 4 s: worker grew by {grown:.0f} MB at most, largest output {largest / 2**20:.1f} MB as JSON"
    )


FLOODS = {
    "yes": "yes | head -c {bytes}",
    "one line": "head -c {bytes} /dev/zero | tr '\\0' x",
    "NULs": "head -c {bytes} /dev/zero",
    "no UTF-8": "head -c {bytes} /dev/zero | tr '\\0' '\\377'",
    "lines": 'python3 -c "import sys, time\nfor _ in range({seconds}):\n end = time.time() + 1\n'
    " sys.stdout.write('a line of some text\\n' * 100000); time.sleep(max(end - time.time(), 0))\"",
    "both streams": "yes | head -c {bytes} >&2 & yes no | head -c {bytes}; wait",
}
MOST_MIB = 20


def test_the_worker_grows_by_less_than_20_mib_whatever_is_written_and_other_runs_do_not_feel_it(stack, capsys):
    size, seconds = (2**30, 10) if LONG else (2**28, 3)
    stack.dispatcher()
    worker = stack.worker(concurrency=4)
    small = create_task(stack, "small", "shell", "echo fine")
    # A worker that has done nothing yet still has its connections and modules to load.
    flood = create_task(stack, "first flood", "shell", "yes | head -c 20000000")
    trigger(stack, (small, 20), (flood, 2))
    stack.wait_for("the warm-up", lambda: states(stack) == {"succeeded": 22}, RECOVERY_SECONDS)
    grown, took = {}, {}
    done = 22
    for name, command in FLOODS.items():
        task = create_task(stack, name, "shell", command.format(bytes=size, seconds=seconds), timeout_seconds=300)
        forget_most_resident(worker)
        before = resident(worker)
        trigger(stack, (task, 1), (small, 10))
        done += 11
        stack.wait_for(f"the end of {name}", lambda done=done: states(stack) == {"succeeded": done}, 120)
        grown[name] = most_resident(worker) - before
        (took[name],) = (
            float(seconds)
            for (seconds,) in stack.rows(
                "select max(extract(epoch from finished_at - started_at)) from tasks_app_run where task_id = %s"
                " and id > (select coalesce(max(id), 0) - 30 from tasks_app_run)",
                (small,),
            )
        )
    say(capsys, ", ".join(f"{name} +{mib:.1f} MiB" for name, mib in grown.items()))
    assert max(grown.values()) < MOST_MIB
    assert max(took.values()) < 10, "a run of a moment takes a moment"


def forget_most_resident(child: Child) -> None:
    """Have the kernel count the most that the process has held from now on."""
    Path(f"/proc/{child.process.pid}/clear_refs").write_text("5")


def test_garbage_and_repeats_on_the_queue_start_nothing_and_stop_nobody(stack):
    stack.dispatcher()
    task = create_task(stack, "noop", "callable", NOOP)
    trigger(stack, (task, 20))
    queued = "select id, attempt from tasks_app_run where state = 'queued'"
    pairs = stack.wait_for("queued runs", lambda: found if len(found := stack.rows(queued)) == 20 else None, 20)
    with Connection(RABBITMQ.url()) as connection:
        producer = Producer(connection.default_channel)
        for body, kind, headers in _garbage(f"{stack.prefix}.default", pairs):
            producer.publish(
                body,
                routing_key=f"{stack.prefix}.default",
                exchange="",
                content_type=kind,
                content_encoding="utf-8",
                headers=headers,
            )
    worker = stack.worker(concurrency=4)
    stack.wait_for("all runs", lambda: states(stack) == {"succeeded": 20}, RECOVERY_SECONDS)
    trigger(stack, (task, 20))
    stack.wait_for("the runs after", lambda: states(stack) == {"succeeded": 40}, RECOVERY_SECONDS)
    assert worker.process.poll() is None
    assert stack.value(ATTEMPTS_OF_ONE) == 0


def _garbage(queue: str, pairs: list[tuple[int, int]]) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    call = {"lang": "py", "task": "scheduler.execute_runs", "id": "1", "root_id": "1", "argsrepr": "", "retries": 0}
    body, signed = messages.seal(queue, [(1, 1)])
    elsewhere = messages.seal(queue + "x", [pairs[0]])

    yield b"\x80\x04", "application/x-python-serialize", call
    yield b"\x80\x04", "application/json", signed
    yield b"not json", "application/json", call
    yield b"\xff\xfe", "text/plain", {}
    yield "[[], {}, {}]", "application/json", call
    yield "[[1], {}, {}]", "application/json", call | {"task": "os.system"}
    yield body, "application/json", {}
    yield body, "application/json", {messages.SIGNATURE: "0" * 64}
    yield body.replace("[1,1]", "[1,2]"), "application/json", signed
    yield elsewhere[0], "application/json", elsewhere[1]
    yield gzip.compress(b" " * 10**7), "application/json", {"compression": "application/x-gzip"}
    yield " " * 10**7, "application/json", signed
    for pair in pairs:
        for attempt in (pair[1], pair[1], pair[1] + 1):
            sealed, headers = messages.seal(queue, [(pair[0], attempt)])
            yield sealed, "application/json", headers


@pytest.mark.long
def test_connections_to_the_database_cut_again_and_again_lose_nothing(stack, capsys):
    children = [stack.dispatcher(), stack.dispatcher(), stack.worker(concurrency=4), stack.worker(concurrency=4)]
    noop = create_task(stack, "noop", "callable", NOOP)
    shell = create_task(stack, "nap", "shell", "sleep 0.3; echo done")
    trigger(stack, (noop, 400), (shell, 60))
    started = time.monotonic()
    cuts = 0
    while states(stack) != {"succeeded": 460}:
        assert time.monotonic() - started < 2 * RECOVERY_SECONDS, f"{states(stack)}\n{stack.logs()}"
        if cuts < 12:
            cuts += stack.value(
                "select count(pg_terminate_backend(pid)) > 0 from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        time.sleep(0.25)
    assert all(child.process.poll() is None for child in children)
    assert stack.value("select count(*) from workers_app_worker where state <> 'online'") == 0
    say(capsys, f"460 runs through {cuts} cuts of every database connection: {time.monotonic() - started:.1f} s")


def test_a_worker_told_to_stop_under_load_loses_nothing_and_ends_in_time(stack, capsys):
    stack.dispatcher()
    stack.dispatcher()
    noop = create_task(stack, "noop", "callable", NOOP)
    nap = create_task(stack, "nap", "shell", "sleep 1; echo done")
    leaving = stack.worker(concurrency=4)
    stack.worker(concurrency=4)
    trigger(stack, (nap, 12), (noop, 3000))
    stack.wait_for("load", lambda: states(stack).get("succeeded", 0) > 300, 30)
    asked = time.monotonic()
    assert leaving.stop() == 0
    seconds = time.monotonic() - asked
    stack.wait_for("all runs", lambda: states(stack) == {"succeeded": 3012}, 60)
    assert stack.value(ATTEMPTS_OF_ONE) == 0
    assert stack.value("select count(*) from workers_app_worker where state = 'offline'") == 1
    say(capsys, f"SIGTERM under load: the worker left after {seconds:.1f} s, 3,012 runs all at their first attempt")


def test_a_worker_that_may_not_wait_hands_its_runs_back(stack):
    """SIGTERM with a drain time shorter than the runs: what may run again does, the rest is recorded as lost."""
    stack.dispatcher()
    leaving = stack.worker(concurrency=4, SCHEDULER_DRAIN_SECONDS="1", SCHEDULER_KILL_GRACE_SECONDS="1")
    # Deaf to TERM and far longer than the test at its first attempt, over at once at its second.
    deaf = "trap '' TERM; [ $SCHEDULER_ATTEMPT = 2 ] || sleep 300"
    again = create_task(stack, "again", "shell", deaf, retry_on_lost=True)
    once = create_task(stack, "once", "shell", "sleep 300")
    trigger(stack, (again, 1), (once, 1))
    stack.wait_for("two running runs", lambda: states(stack) == {"running": 2}, 20)
    stack.worker(concurrency=4)
    leaving.process.send_signal(signal.SIGTERM)
    stack.wait_for("both ends", lambda: states(stack) == {"lost": 1, "succeeded": 1}, RECOVERY_SECONDS)
    assert stack.rows("select attempt, state from tasks_app_run order by task_id") == [(2, "succeeded"), (1, "lost")]


def test_what_left_its_run_dies_with_a_killed_worker_and_a_frozen_worker_s_run_before_the_next_attempt(stack):
    stack.dispatcher()
    lease = {"SCHEDULER_LEASE_SECONDS": "6", "SCHEDULER_HEARTBEAT_SECONDS": "1"}
    killed, frozen = stack.worker(concurrency=1, **lease), stack.worker(concurrency=1, **lease)
    task = create_task(stack, "pair", "shell", "setsid sleep 301 & exec sleep 300", retry_on_lost=True)
    trigger(stack, (task, 2))
    keys = workers(stack)
    stack.wait_for("two runs with two processes each", lambda: [len(marked(key)) for key in keys] == [2, 2], 20)
    # Ready to take the second attempts at once, whatever still lives of the first.
    stack.worker(concurrency=2)
    killed.kill()
    frozen.freeze()

    def started_again() -> int:
        again = {id for (id,) in stack.rows("select id from tasks_app_run where state = 'running' and attempt = 2")}
        assert not again & {run for key in keys for run, _attempt in marked(key).values()}, "two at the same time"
        return len(again)

    stack.wait_for("the second attempts", lambda: started_again() == 2, RECOVERY_SECONDS)
    assert not any(marked(key) for key in keys)
    frozen.thaw()
    stack.wait_for("the end of the zombie", lambda: frozen.process.poll() == 70, 15)
    assert started_again() == 2


def test_a_task_deleted_under_its_runs_takes_no_other_run_with_it(stack):
    stack.dispatcher()
    stack.worker(concurrency=4)
    deleted = create_task(stack, "deleted", "shell", "while :; do echo line; sleep 0.05; done")
    other = create_task(stack, "other", "shell", "echo fine")
    trigger(stack, (deleted, 2))
    stack.wait_for("two running runs", lambda: states(stack) == {"running": 2}, 20)
    (key,) = workers(stack)
    stack.run(
        "shell",
        "-c",
        f"""
from django.utils import timezone
from access_app.actors import system_actor
from tasks_app.models import Task
from tasks_app.services import tasks
tasks.delete(system_actor("test"), Task.objects.get(pk={deleted}), now=timezone.now())
""",
    )
    trigger(stack, (other, 4))
    stack.wait_for("the other runs", lambda: states(stack) == {"succeeded": 4}, RECOVERY_SECONDS)
    stack.wait_for("the end of the deleted ones", lambda: not marked(key), 15)


@pytest.mark.long
def test_five_thousand_runs_that_fail_at_once_are_tried_again_and_delay_no_other_work(stack, capsys):
    for _ in range(2):
        stack.dispatcher()
        stack.worker(concurrency=4)
    failing = create_task(
        stack, "failing", "callable", "workers_app.samples.fail", retry_count=1, retry_delay_seconds=2
    )
    noop = create_task(stack, "noop", "callable", NOOP, priority=90)
    started = time.monotonic()
    trigger(stack, (failing, 5000))
    stack.wait_for("failures", lambda: stack.value("select count(*) from tasks_app_run where attempt = 2") > 100, 60)
    trigger(stack, (noop, 20))
    asked = time.monotonic()
    stack.wait_for("other work", lambda: states(stack).get("succeeded") == 20, RECOVERY_SECONDS)
    other = time.monotonic() - asked
    stack.wait_for("every end", lambda: states(stack) == {"failed": 5000, "succeeded": 20}, 300)
    assert stack.value("select count(*) from tasks_app_run where state = 'failed' and attempt <> 2") == 0
    say(capsys, f"5,000 failed twice in {time.monotonic() - started:.0f} s; other work took {other:.1f} s beside them")
