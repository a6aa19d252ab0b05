"""A dispatcher or a worker ends, or stands still, at a named point: every instant is answered all the same, and every
run is executed as often as it must be.

`make test-chaos`: every point there is, instead of a few.
"""

from __future__ import annotations

import sys
import time

import pytest

from tests.acceptance.chaos.load import CHAOS, QUICK, schedule_work, wait_until_over
from tests.acceptance.chaos.points import ACTION, CRASHED, POINT, POINTS, Action, Cost, Point
from tests.acceptance.work import RECOVERY_SECONDS, say
from tests.services import Child, ProcessStack

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]

ALWAYS = ("before publish",)
COMMANDS = {
    "dispatcher": ("run_dispatcher",),
    "worker": ("run_worker", "--concurrency", "4"),
}
# The server's patience with a session that stands still in a transaction (scheduler_site/env.py), and some seconds.
UNFROZEN_SECONDS = 15


def start(stack: ProcessStack, process: str, point: Point | None = None, action: Action = Action.CRASH) -> Child:
    """A process with a fault in it, or a sound one; it need not be ready."""
    entry = ["-m", "tests.acceptance.chaos.faulty"] if point else ["manage.py"]
    fault = {POINT: point.name, ACTION: action} if point else {}
    return stack.start(process, [sys.executable, *entry, *COMMANDS[process]], QUICK | fault)


@pytest.mark.parametrize("name", [name for name in POINTS if CHAOS or name in ALWAYS])
def test_a_process_that_ends_at_any_point_costs_no_instant_and_no_run_more_than_an_attempt(stack, history, name):
    point = POINTS[name]
    faulty = start(stack, point.process, point)
    others = [start(stack, kind) for kind in COMMANDS if kind != point.process]
    schedule_work(stack, history, seconds=4, beats=20 if point.with_a_dead_worker else 3)
    if point.with_a_dead_worker:
        stack.wait_for("a run under way", history.lines, RECOVERY_SECONDS)
        others[0].kill()
    stack.wait_for(f"the end at {name!r}", lambda: faulty.process.poll() is not None, RECOVERY_SECONDS)
    assert faulty.process.returncode == CRASHED
    for kind in {point.process, "worker"} if point.with_a_dead_worker else {point.process}:
        start(stack, kind)
    wait_until_over(stack, RECOVERY_SECONDS)
    assert history.faults(stack) == []
    if point.cost is Cost.NOTHING:
        assert stack.rows("select id from tasks_app_run where attempt <> 1 or state <> 'succeeded'") == []
        assert set(history.starts().values()) == {1}


def test_a_dispatcher_frozen_in_mid_transaction_does_not_keep_the_others_from_its_rows(stack, history, capsys):
    point = POINTS["fire inserted"]
    frozen = start(stack, "dispatcher", point, Action.FREEZE)
    start(stack, "worker")
    schedule_work(stack, history, seconds=4)
    stack.wait_for("the frozen transaction", lambda: stack.value(_IDLE), RECOVERY_SECONDS)
    began = time.monotonic()
    start(stack, "dispatcher")
    stack.wait_for("a run", lambda: stack.value("select count(*) from tasks_app_run"), UNFROZEN_SECONDS)
    seconds = time.monotonic() - began
    wait_until_over(stack, RECOVERY_SECONDS)
    frozen.thaw()
    # It finds its session gone, and is of use again.
    stack.wait_for("its next word", lambda: "tick failed" in frozen.tail(), RECOVERY_SECONDS)
    stack.wait_for("its sign of life", lambda: stack.value(_ALIVE) == 2, RECOVERY_SECONDS)
    assert frozen.process.poll() is None
    assert history.faults(stack) == []
    assert set(history.starts().values()) == {1}
    say(capsys, f"another dispatcher went on {seconds:.1f} s after one was frozen in mid transaction")


_IDLE = "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
_ALIVE = "select count(*) from dispatcher_app_dispatcher where beat_at > now() - interval '10 s'"


@pytest.mark.parametrize("name", ["after claim", *(["claim written", "end written"] if CHAOS else [])])
def test_a_worker_frozen_at_any_point_is_given_up_and_ends_itself_when_it_goes_on(stack, history, name):
    frozen = start(stack, "worker", POINTS[name], Action.FREEZE)
    start(stack, "dispatcher")
    schedule_work(stack, history, seconds=4)
    lost = "select count(*) from workers_app_worker where state = 'lost'"
    stack.wait_for("a worker that is given up", lambda: stack.value(lost) == 1, RECOVERY_SECONDS)
    start(stack, "worker")
    wait_until_over(stack, RECOVERY_SECONDS)
    frozen.thaw()
    stack.wait_for("its end", lambda: frozen.process.poll() is not None, RECOVERY_SECONDS)
    assert frozen.process.returncode == 70
    assert history.faults(stack) == []


def test_every_point_has_a_function_that_is_there():
    import importlib
    from functools import reduce

    for point in POINTS.values():
        module, _, path = point.target.partition(":")
        assert callable(reduce(getattr, path.split("."), importlib.import_module(module)))
