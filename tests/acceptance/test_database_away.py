"""The database taken away for longer than a lease: every worker keeps its runs, and work goes on by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests import environment
from tests.acceptance.proxy import Proxy
from tests.acceptance.work import NOOP, create_task, say, states, trigger
from tests.invariants import violations
from tests.services import ProcessStack

pytestmark = [pytest.mark.serial, pytest.mark.postgresql, pytest.mark.rabbitmq]
LONG = os.environ.get("TEST_LONG") == "1"
RECOVERY_SECONDS = 30


@pytest.fixture
def stack(process_stack: ProcessStack) -> Iterator[ProcessStack]:
    yield process_stack
    assert violations(process_stack.rows) == {}


def test_an_outage_of_the_database_longer_than_the_lease_costs_no_run_and_no_worker(stack, capsys):
    lease = {"SCHEDULER_LEASE_SECONDS": "4", "SCHEDULER_HEARTBEAT_SECONDS": "1"}
    away = 60 if LONG else 8
    url = urlsplit(environment.database_url(stack.database))
    proxy = Proxy(url.hostname or "127.0.0.1", url.port or 5432)
    through = {"DATABASE_URL": urlunsplit(url._replace(netloc=f"{url.username}@127.0.0.1:{proxy.port}"))} | lease
    children = [start(**through) for start in (stack.dispatcher, stack.dispatcher, stack.worker, stack.worker)]
    ends_meanwhile = create_task(stack, "ends meanwhile", "shell", "sleep 3; echo done")
    goes_on = create_task(stack, "goes on", "shell", f"sleep {away + 6}; echo done")
    noop = create_task(stack, "noop", "callable", NOOP)
    trigger(stack, (ends_meanwhile, 3), (goes_on, 3))
    stack.wait_for("six running runs", lambda: states(stack) == {"running": 6}, 20)
    proxy.cut()
    trigger(stack, (noop, 50))
    time.sleep(away)
    proxy.restore()
    back = time.monotonic()
    stack.wait_for("what was asked for and what ended meanwhile", lambda: states(stack).get("succeeded", 0) >= 53, 30)
    seconds = time.monotonic() - back
    stack.wait_for("all runs", lambda: states(stack) == {"succeeded": 56}, RECOVERY_SECONDS)
    assert stack.value("select count(*) from tasks_app_run where attempt <> 1") == 0
    assert stack.value("select count(*) from workers_app_worker where state <> 'online'") == 0
    assert all(child.process.poll() is None for child in children)
    say(capsys, f"database away for {away} s, lease of 4 s: 53 runs done {seconds:.1f} s after its return, none lost")
    proxy.cut()
