"""A bad network between the processes and their servers: slow, resetting, half-open, silent. Nothing is lost or done
twice, and nobody has to lend a hand.

TEST_LONG=1: every kind of broker instead of one for each kind of trouble, and two minutes of slow and resetting links
instead of some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.probes import RABBITMQ, REDIS
from tests.acceptance.steady import Load
from tests.acceptance.work import LONG, NOOP, RECOVERY_SECONDS, create_schedules, create_task, say, states, trigger
from tests.proxy import Proxy
from tests.services import Child, ProcessStack
from tests.workers_app import redis_keys
from workers_app import brokers

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq, pytest.mark.redis]

BAD_SECONDS = 120.0 if LONG else 6.0
RESET_SECONDS = 2.0
SCHEMES = ["amqp", "redis", "redis-stream"]
SLOW = SCHEMES if LONG else ["redis-stream"]
HALF_OPEN = SCHEMES if LONG else ["amqp"]
SILENT = SCHEMES if LONG else ["amqp"]


@contextmanager
def broker(stack: ProcessStack, scheme: str) -> Iterator[Proxy]:
    """The proxy before the broker that the processes of the stack use from now on."""
    plain, port = (RABBITMQ.url(), 5672) if scheme == "amqp" else (REDIS.url(), 6379)
    with Proxy(plain, port) as proxy:
        stack.environ["CELERY_BROKER_URL"] = proxy.url.replace(f"{plain.partition(':')[0]}://", f"{scheme}://", 1)
        try:
            yield proxy
        finally:
            stack.environ["CELERY_BROKER_URL"] = RABBITMQ.url()
    redis_keys.drop(stack.prefix)


@contextmanager
def database(stack: ProcessStack) -> Iterator[Proxy]:
    """The proxy before the database that the processes of the stack use from now on; `rows` goes past it."""
    straight = stack.environ["DATABASE_URL"]
    with Proxy(straight, 5432) as proxy:
        stack.environ["DATABASE_URL"] = proxy.url
        try:
            yield proxy
        finally:
            stack.environ["DATABASE_URL"] = straight


def under_bad_links(proxy: Proxy, load: Load, *, delay: float) -> int:
    """Keep the load up while links are slow and are reset again and again; how often they were."""
    proxy.delay, resets = delay, 0
    end = time.monotonic() + BAD_SECONDS
    while time.monotonic() < end:
        load.keep_up(RESET_SECONDS)
        proxy.reset()
        resets += 1
    proxy.delay = 0.0
    return resets


@pytest.mark.long
@pytest.mark.parametrize("scheme", SLOW)
def test_links_to_the_broker_that_are_slow_and_reset_cost_no_run_and_double_none(stack, scheme, tmp_path, capsys):
    with broker(stack, scheme) as proxy:
        children = [start() for start in (stack.dispatcher, stack.dispatcher, stack.worker, stack.worker)]
        load = Load(stack, stack.web(), tmp_path / "written", a_second=20)
        resets = under_bad_links(proxy, load, delay=0.1)
        last = time.monotonic()
        stack.wait_for("all runs", load.is_done, RECOVERY_SECONDS)
        seconds = time.monotonic() - last
        load.assert_each_ran_once()
        assert_alive(children)
    say(
        capsys,
        f"{scheme}: {load.asked} runs through {resets} resets and 0.1 s of delay; the last after {seconds:.1f} s",
    )


@pytest.mark.long
def test_links_to_the_database_that_are_slow_and_reset_cost_no_run_and_double_none(stack, tmp_path, capsys):
    web = stack.web()
    with database(stack) as proxy:
        children = [start() for start in (stack.dispatcher, stack.dispatcher, stack.worker, stack.worker)]
        load = Load(stack, web, tmp_path / "written", a_second=20)
        resets = under_bad_links(proxy, load, delay=0.005)
        last = time.monotonic()
        stack.wait_for("all runs", load.is_done, RECOVERY_SECONDS)
        seconds = time.monotonic() - last
        load.assert_each_was_executed_once()
        assert_alive(children)
    say(
        capsys, f"database: {load.asked} runs through {resets} resets and 5 ms of delay; the last after {seconds:.1f} s"
    )


@pytest.mark.parametrize("scheme", HALF_OPEN)
def test_half_open_links_to_the_broker_are_left_by_themselves_within_30_seconds(stack, scheme, capsys):
    with broker(stack, scheme) as proxy:
        children = [stack.dispatcher(), stack.worker()]
        noop = create_task(stack, "noop", "callable", NOOP)
        trigger(stack, (noop, 5))
        stack.wait_for("the runs before", lambda: states(stack) == {"succeeded": 5}, 20)
        lost, began = proxy.lose(), time.monotonic()
        assert lost >= 2
        trigger(stack, (noop, 50))
        stack.wait_for("the runs meanwhile", lambda: states(stack) == {"succeeded": 55}, RECOVERY_SECONDS)
        seconds = time.monotonic() - began
        # Heard again, not only found by the sweep: the next ones come at once.
        trigger(stack, (noop, 50))
        stack.wait_for("the runs after", lambda: states(stack) == {"succeeded": 105}, 10)
        assert_alive(children)
    say(capsys, f"{scheme}: {lost} links half-open; runs went on {seconds:.1f} s after")


@pytest.mark.long
def test_half_open_links_to_the_database_are_left_within_30_seconds_and_cost_no_run_its_attempt(
    stack, tmp_path, capsys
):
    with database(stack) as proxy:
        children = [stack.dispatcher(), stack.dispatcher(), stack.worker(), stack.worker()]
        under_way = create_task(stack, "under way", "shell", f"until [ -e {tmp_path}/over ]; do sleep 0.2; done")
        noop = create_task(stack, "noop", "callable", NOOP)
        trigger(stack, (under_way, 4))
        stack.wait_for("four running runs", lambda: states(stack) == {"running": 4}, 20)
        lost, began = proxy.lose(), time.monotonic()
        assert lost >= 4
        trigger(stack, (noop, 50))
        stack.wait_for("the runs meanwhile", lambda: states(stack).get("succeeded") == 50, RECOVERY_SECONDS)
        seconds = time.monotonic() - began
        # Long enough for a lease that was not renewed in time to run out.
        time.sleep(max(began + 20 - time.monotonic(), 0))
        Path(tmp_path, "over").touch()
        stack.wait_for("all runs", lambda: states(stack) == {"succeeded": 54}, RECOVERY_SECONDS)
        assert stack.value("select count(*) from tasks_app_run where attempt <> 1") == 0
        assert stack.value("select count(*) from workers_app_worker where state <> 'online'") == 0
        assert_alive(children)
    say(capsys, f"database: {lost} links half-open; runs went on {seconds:.1f} s after, leases held")


@pytest.mark.long
@pytest.mark.parametrize("scheme", SILENT)
def test_a_broker_that_falls_silent_stops_no_schedule_and_is_heard_again_by_itself(stack, scheme, capsys):
    with broker(stack, scheme) as proxy:
        children = [stack.dispatcher(), stack.worker()]
        noop = create_task(stack, "noop", "callable", NOOP)
        trigger(stack, (noop, 5))
        stack.wait_for("the runs before", lambda: states(stack) == {"succeeded": 5}, 20)
        proxy.silence()
        create_schedules(stack, 2, "*/2 * * * * *")
        fired = "select count(*) from tasks_app_run where schedule_id is not null and created_at - nominal_at < '13 s'"
        # A tick may wait for the broker once, and then knows better for a while.
        stack.wait_for("instants that are answered all the same", lambda: stack.value(fired) >= 12, 40)
        stack.rows("update tasks_app_schedule set enabled = false, next_fire_at = null")
        proxy.speak()
        heard = time.monotonic()
        stack.wait_for("all runs", lambda: set(states(stack)) == {"succeeded"}, RECOVERY_SECONDS)
        seconds = time.monotonic() - heard
        trigger(stack, (noop, 50))
        before = states(stack)["succeeded"]
        assert before >= 5 + 12
        stack.wait_for("the runs after", lambda: set(states(stack)) == {"succeeded"}, 10)
        assert_alive(children)
    say(capsys, f"{scheme}: silent for a while; all runs done {seconds:.1f} s after it spoke again")


@pytest.mark.long
def test_a_worker_whose_queue_is_deleted_under_it_hears_again_by_itself(stack, capsys):
    worker = stack.worker()
    stack.dispatcher()
    noop = create_task(stack, "noop", "callable", NOOP)
    trigger(stack, (noop, 5))
    stack.wait_for("the runs before", lambda: states(stack) == {"succeeded": 5}, 20)
    with brokers.connection(RABBITMQ.url(), seconds=5) as connection:
        connection.default_channel.queue_delete(f"{stack.prefix}.default")
    began = time.monotonic()
    trigger(stack, (noop, 50))
    stack.wait_for("the runs after", lambda: states(stack) == {"succeeded": 55}, RECOVERY_SECONDS)
    assert_alive([worker])
    say(capsys, f"queue deleted: runs went on {time.monotonic() - began:.1f} s after")


def assert_alive(children: list[Child]) -> None:
    """No process had to be started again."""
    assert [child.name for child in children if child.process.poll() is not None] == []
