"""Two dispatchers under everything at once, killed at random again and again; one of them is always started anew.

TEST_LONG=1: three minutes of it instead of twenty seconds.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime

import pytest

from tests.acceptance.work import LONG, RECOVERY_SECONDS, run_code, say, states
from tests.services import Child, ProcessStack

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]

SECONDS = 180 if LONG else 20
# Every other second a task of each policy, each with a downstream task of which some fail; a limit, a pool, retries.
LOAD = """
small = Pool.objects.create(name="small", slots=3)
from tasks_app.services import dependencies
for n, policy in enumerate(["allow", "skip", "queue_one", "queue_all", "cancel_running", "terminate_running"]):
    up = {"executor": "callable", "command": "workers_app.samples.noop", "retry_count": 1, "retry_delay_seconds": 1,
        "overlap": policy, "max_concurrent": 2 if n % 2 else None, "retry_on_lost": True, "name": f"up {n}"}
    if n % 3 == 0:
        up["pool"] = small
    upstream = tasks.create(actor, home | up, now=now)
    below = {"executor": "callable", "name": f"below {n}", "retry_count": 2, "retry_delay_seconds": 1,
        "command": "workers_app.samples.fail" if n % 4 == 0 else "workers_app.samples.noop"}
    downstream = tasks.create(actor, home | below, now=now)
    last = tasks.create(actor, home | {"executor": "callable", "command": "workers_app.samples.noop",
        "name": f"last {n}", "trigger_rule": "all_done"}, now=now)
    dependencies.create(actor, upstream, downstream, now=now)
    dependencies.create(actor, downstream, last, now=now)
    schedules.create(actor, upstream, {"kind": "cron", "expression": "*/2 * * * * *", "catch_up": "all",
        "max_catch_up": 1000}, now=timezone.now())
"""
STOP = """
from tasks_app.models import Schedule
for schedule in Schedule.objects.select_related("task"):
    schedules.update(actor, schedule, {"enabled": False}, now=timezone.now())
"""


@pytest.mark.long
def test_dispatchers_killed_again_and_again_lose_nothing_and_do_nothing_twice(stack, capsys):
    chance = random.Random(20260302)  # the same kills each time, as far as the machine lets them
    dispatchers = [stack.dispatcher() for _ in range(2)]
    stack.worker(concurrency=4)
    run_code(stack, LOAD)
    stack.worker(pool="small", concurrency=3)
    kills = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.5, 4))
        # Now and then both of them, so that nobody at all is left for a moment.
        for doomed in dispatchers if chance.random() < 0.2 else [chance.choice(dispatchers)]:
            doomed.kill()
            kills += 1
        # Not waited for: the next kill may meet it before it serves.
        dispatchers = [one if one.process.poll() is None else _start(stack) for one in dispatchers]
    run_code(stack, STOP)
    stopped = datetime.now(UTC)
    open_runs = "select count(*) from tasks_app_run where state in ('waiting', 'queued', 'running')"
    stack.wait_for("the end of every run", lambda: stack.value(open_runs) == 0, 3 * RECOVERY_SECONDS)
    runs = "select count(*) from tasks_app_run where schedule_id is not null"
    assert stack.value(runs) > SECONDS  # of some three a second
    twice = (
        "select 1 from tasks_app_run where schedule_id is not null group by schedule_id, nominal_at having count(*) > 1"
    )
    assert stack.rows(twice) == []
    assert stack.rows(_UNANSWERED, [stopped]) == []
    say(capsys, f"{kills} dispatchers killed in {SECONDS} s: {states(stack)}, every instant answered once")


def _start(stack: ProcessStack) -> Child:
    return stack.start("dispatcher", [sys.executable, "manage.py", "run_dispatcher"], {})


# I2 by counting here what the command counts there: instants since the first answer against answers.
_UNANSWERED = """select id, instants, runs, explained from (select schedule.id,
    (select count(*) from tasks_app_run where schedule_id = schedule.id) as runs,
    (select coalesce(sum(count), 0) from tasks_app_ledgerentry where schedule_id = schedule.id) as explained,
    (select extract(epoch from max(answer.until) - min(answer.since)) / 2 + 1 from (
        select nominal_at as since, nominal_at as until from tasks_app_run where schedule_id = schedule.id
        union all select first_at, last_at from tasks_app_ledgerentry where schedule_id = schedule.id) as answer)
    as instants from tasks_app_schedule as schedule where schedule.created_at < %s) as counted
    where instants is null or instants <> runs + explained"""
