"""Chains of runs, some of them cancelled at any moment: no start after a cancel, none before its upstream's end."""

from __future__ import annotations

import pytest

from tests.acceptance.work import NOOP, RECOVERY_SECONDS, run_code, say, states
from tests.invariants import assert_invariants_hold

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
CHAINS, CANCELS = 30, 40
# `first` fails once, so that cancels also meet runs that are between two attempts; `last` starts whatever became of
# `middle`. All runs of a chain are there from the start.
PLAN = f"""
from tasks_app.services import dependencies
shell = home | {{"executor": "shell"}}
again = {{"command": "sleep 0.4; [ $SCHEDULER_ATTEMPT = 2 ]", "retry_count": 1, "retry_delay_seconds": 2}}
first = tasks.create(actor, shell | again | {{"name": "first"}}, now=now)
middle = tasks.create(actor, shell | {{"name": "middle", "command": "sleep 0.1"}}, now=now)
last = home | {{"name": "last", "executor": "callable", "command": "{NOOP}", "trigger_rule": "all_done"}}
last = tasks.create(actor, last, now=now)
dependencies.create(actor, first, middle, now=now)
dependencies.create(actor, middle, last, now=now)
runs.trigger_batch(actor, first, [runs.Request() for _ in range({CHAINS})], now=now)
"""
CANCEL = f"""
import random, time
from access_app.errors import WrongState
from tasks_app.models import Run
chance = random.Random(3)
for _ in range({CANCELS}):
    time.sleep(chance.uniform(0, 0.15))
    unasked = Run.objects.filter(cancel_requested_at=None, finished_at=None)
    state = chance.choice(sorted(set(unasked.values_list("state", flat=True))) or [""])
    run = chance.choice(list(unasked.filter(state=state).select_related("task").order_by("id")) or [None])
    try:
        if run is not None:
            runs.cancel(actor, run, now=timezone.now())
    except WrongState:
        print("too late")
"""


def test_no_run_of_a_chain_starts_after_its_cancel_or_before_its_upstream_has_ended(stack, capsys):
    for _ in range(2):
        stack.dispatcher()
        stack.worker(concurrency=2)
    # In one process: until a second one has started, everything may be over.
    run_code(stack, PLAN + CANCEL)

    def are_over() -> bool:
        assert_invariants_hold(stack)
        return not states(stack).keys() & {"waiting", "queued", "running"}

    stack.wait_for("all runs", are_over, RECOVERY_SECONDS)
    assert sum(states(stack).values()) == 3 * CHAINS
    # What the invariants have judged: cancels in every state, starts below upstream runs that had ended well or badly.
    cancelled_from = stack.rows(
        "select from_state, count(*) from tasks_app_runevent where to_state = 'cancelled' group by 1"
    )
    assert {state for state, _count in cancelled_from} == {"waiting", "queued", "running"}
    below = stack.rows(
        """select down.trigger_rule, up.state, count(*) from tasks_app_run down
        join tasks_app_rundependency edge on edge.downstream_id = down.id
        join tasks_app_run up on up.id = edge.upstream_id
        where exists (select from tasks_app_runevent where run_id = down.id and to_state = 'running') group by 1, 2"""
    )
    assert {("all_success", "succeeded"), ("all_done", "succeeded"), ("all_done", "upstream_failed")} <= {
        (rule, state) for rule, state, _count in below
    }
    assert stack.value("select count(*) from tasks_app_run where attempt = 2 and state = 'succeeded'") > 0
    say(capsys, f"{sum(count for _state, count in cancelled_from)} cancels of {dict(cancelled_from)}; {states(stack)}")
