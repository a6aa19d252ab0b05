"""The same work on every broker; and from one to the other while it goes on: nothing lost, nothing twice.

TEST_LONG=1: a minute between the moves instead of a few seconds, and RabbitMQ is away for ten.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kombu import Producer

from scripts.probes import RABBITMQ, REDIS
from tests.acceptance.steady import STARTS, Load, answered
from tests.acceptance.work import LONG, NOOP, RECOVERY_SECONDS, create_task, say, states, trigger
from tests.proxy import Proxy
from tests.services import ProcessStack
from tests.workers_app import redis_keys
from workers_app import brokers

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq, pytest.mark.redis]

STREAMS = REDIS.url().replace("redis://", "redis-stream://", 1)
# In the phase before the first move, between the moves, and after the last.
PHASE_SECONDS = 60.0 if LONG else 5.0
AWAY_SECONDS = 600.0 if LONG else 6.0


@pytest.fixture
def anywhere(stack: ProcessStack) -> Iterator[ProcessStack]:
    """The stack, whose queues are taken away from the other brokers too."""
    yield stack
    redis_keys.drop(stack.prefix)
    with brokers.connection(RABBITMQ.url(), seconds=5) as connection:
        connection.default_channel.queue_delete(f"{stack.prefix}.default.quorum")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        pytest.param(REDIS.url(), "classic", marks=pytest.mark.long),
        (STREAMS, "classic"),
        pytest.param(RABBITMQ.url(), "quorum", marks=pytest.mark.long),
    ],
)
def test_work_goes_on_past_garbage_and_a_killed_worker_on_every_broker(anywhere, url, kind, capsys):
    stack = anywhere
    stack.environ |= {"CELERY_BROKER_URL": url, "SCHEDULER_RABBITMQ_QUEUE_TYPE": kind}
    queue = f"{stack.prefix}.default" + (".quorum" if kind == "quorum" else "")
    stack.dispatcher()
    doomed = stack.worker(concurrency=2)
    noop = create_task(stack, "noop", "callable", NOOP)
    nap = create_task(stack, "nap", "shell", "sleep 600", retry_on_lost=True)
    short = create_task(stack, "short", "shell", "sleep 0.05")
    trigger(stack, (nap, 3))
    stack.wait_for("two running runs", lambda: states(stack) == {"running": 2, "queued": 1}, 20)
    with brokers.connection(url, seconds=5) as connection:
        producer = Producer(connection.default_channel)
        for _ in range(3):
            producer.publish("garbage", routing_key=queue, exchange="", headers={"task": "os.system"})
    # The third run is held by a worker that has no slot for it, and dies.
    doomed.kill()
    stack.rows("update tasks_app_taskversion set command = 'true' where command = 'sleep 600'")
    worker = stack.worker(concurrency=4)
    died = time.monotonic()
    trigger(stack, (noop, 500), (short, 40))
    stack.wait_for("all runs", lambda: states(stack) == {"succeeded": 543}, RECOVERY_SECONDS)
    seconds = time.monotonic() - died
    assert worker.process.poll() is None
    assert len(worker.events("message dropped")) == 3
    stack.wait_for("a beat", lambda: stack.value("select sum(messages_dropped) from workers_app_worker") == 3, 10)
    assert stack.value(STARTS) == 543 + 2
    say(capsys, f"{url.partition(':')[0]} {kind}: 543 runs past garbage and kill -9 in {seconds:.1f} s")


def test_the_broker_is_changed_to_and_fro_under_load_and_nothing_is_lost_or_done_twice(anywhere, capsys, tmp_path):
    stack = anywhere
    stack.dispatcher()
    stack.dispatcher()
    workers = [stack.worker(concurrency=4) for _ in range(2)]
    web = stack.web()
    load = Load(stack, web, tmp_path / "written", a_second=100)
    load.keep_up(PHASE_SECONDS)
    for url in (STREAMS, RABBITMQ.url()):
        answered(web.patch("/api/settings", json={"broker_url": url}), 200)
        load.keep_up(PHASE_SECONDS)
    stack.wait_for("all runs", load.is_done, RECOVERY_SECONDS)
    load.assert_each_ran_once()
    for worker in workers:
        moves = [event["broker"] for event in worker.events("following to another broker")]
        assert moves == [brokers.masked(STREAMS), brokers.masked(RABBITMQ.url())]
        assert worker.process.poll() is None
    slowest, p99 = stack.rows(
        """select max(wait), percentile_cont(0.99) within group (order by wait)
        from (select extract(epoch from started_at - created_at) as wait from tasks_app_run) waits"""
    )[0]
    say(
        capsys,
        f"RabbitMQ -> Redis Streams -> RabbitMQ under 100 runs/s: {load.asked} runs, each started once; wait p99"
        f" {p99:.2f} s, longest {slowest:.2f} s",
    )


@pytest.mark.long
def test_a_broker_that_was_away_under_load_and_comes_back_empty_costs_no_run(stack, capsys, tmp_path):
    with Proxy(RABBITMQ.url(), 5672) as of_workers, Proxy(RABBITMQ.url(), 5672) as of_dispatchers:
        children = []
        for _ in range(2):
            children.append(stack.dispatcher(CELERY_BROKER_URL=of_dispatchers.url))
            children.append(stack.worker(concurrency=4, CELERY_BROKER_URL=of_workers.url))
        load = Load(stack, stack.web(), tmp_path / "written", a_second=20)
        load.keep_up(3)
        # Workers lose it first, so that something lies in it when it loses all.
        of_workers.cut()
        load.keep_up(3)
        of_dispatchers.cut()
        load.keep_up(AWAY_SECONDS)
        with brokers.connection(RABBITMQ.url(), seconds=5) as connection:
            purged = connection.default_channel.queue_purge(f"{stack.prefix}.default")
        assert purged > 0
        back, backlog = stack.rows(
            "select clock_timestamp(), (select count(*) from tasks_app_run where state in ('waiting', 'queued'))"
        )[0]
        of_dispatchers.restore()
        of_workers.restore()
        load.keep_up(3)
        # What has piled up is executed at the pace of this machine; that it goes on at once is asked below.
        stack.wait_for("all runs", load.is_done, RECOVERY_SECONDS + backlog / 50)
        assert all(child.process.poll() is None for child in children)
    load.assert_each_ran_once()
    first, last = stack.rows(
        """select extract(epoch from min(started_at) - %(back)s), extract(epoch from max(started_at) - %(back)s)
        from tasks_app_run where started_at > %(back)s""",
        {"back": back},
    )[0]
    assert first < RECOVERY_SECONDS
    say(
        capsys,
        f"RabbitMQ away for {AWAY_SECONDS:.0f} s under 20 runs/s, {purged} messages purged: {load.asked} runs, each"
        f" started once; {backlog} had piled up, the next started after {first:.1f} s, the last after {last:.1f} s",
    )
