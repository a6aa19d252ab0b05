"""The same work on every broker; and from one to the other while it goes on: nothing lost, nothing twice.

TEST_LONG=1: a minute between the moves instead of a few seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from kombu import Producer

from scripts.probes import RABBITMQ, REDIS
from tests.acceptance.work import LONG, NOOP, RECOVERY_SECONDS, create_task, say, states, trigger
from tests.services import ProcessStack
from tests.workers_app import redis_keys
from workers_app import brokers

pytestmark = [pytest.mark.serial, pytest.mark.postgresql, pytest.mark.rabbitmq, pytest.mark.redis]

STREAMS = REDIS.url().replace("redis://", "redis-stream://", 1)
# In the phase before the first move, between the moves, and after the last.
PHASE_SECONDS = 60.0 if LONG else 5.0
BATCH, BATCH_SECONDS = 50, 0.5
STARTS = "select count(*) from tasks_app_runevent where to_state = 'running'"


@pytest.fixture
def anywhere(stack: ProcessStack) -> Iterator[ProcessStack]:
    """The stack, whose queues are taken away from the other brokers too."""
    yield stack
    redis_keys.drop(stack.prefix)
    with brokers.connection(RABBITMQ.url(), seconds=5) as connection:
        connection.default_channel.queue_delete(f"{stack.prefix}.default.quorum")


@pytest.mark.parametrize(("url", "kind"), [(REDIS.url(), "classic"), (STREAMS, "classic"), (RABBITMQ.url(), "quorum")])
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
    assert stack.value(STARTS) == 543 + 2
    say(capsys, f"{url.partition(':')[0]} {kind}: 543 runs past garbage and kill -9 in {seconds:.1f} s")


def test_the_broker_is_changed_to_and_fro_under_load_and_nothing_is_lost_or_done_twice(anywhere, capsys, tmp_path):
    stack = anywhere
    stack.dispatcher()
    stack.dispatcher()
    workers = [stack.worker(concurrency=4) for _ in range(2)]
    web = stack.web()
    noop = create_task(stack, "noop", "callable", NOOP)
    written = tmp_path / "written"
    witness = create_task(stack, "witness", "shell", f"echo $SCHEDULER_RUN_ID >> {written}")
    asked = _load(stack, web, noop, witness, [None, STREAMS, RABBITMQ.url()])
    total = asked * (BATCH + 1)
    stack.wait_for("all runs", lambda: states(stack) == {"succeeded": total}, RECOVERY_SECONDS)
    assert stack.value(STARTS) == total
    assert stack.value("select count(*) from tasks_app_run where attempt <> 1") == 0
    ids = Counter(written.read_text().split())
    assert ids == Counter(str(id) for (id,) in stack.rows(f"select id from tasks_app_run where task_id = {witness}"))
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
        f"RabbitMQ -> Redis Streams -> RabbitMQ under {BATCH / BATCH_SECONDS:.0f} runs/s: {total} runs, each started"
        f" once; wait p99 {p99:.2f} s, longest {slowest:.2f} s",
    )


def _load(stack: ProcessStack, web: httpx.Client, noop: int, witness: int, moves: list[str | None]) -> int:
    """Trigger runs at a steady pace, and at the beginning of each phase move to its broker; how many batches."""
    batches = 0
    next_at = time.monotonic()
    for url in moves:
        if url is not None:
            _answered(web.patch("/api/settings", json={"broker_url": url}), 200)
        end = time.monotonic() + PHASE_SECONDS
        while time.monotonic() < end:
            _answered(web.post(f"/api/tasks/{noop}/trigger-batch", json={"items": [{}] * BATCH}), 201)
            _answered(web.post(f"/api/tasks/{witness}/trigger", json={}), 201)
            batches += 1
            next_at = max(next_at + BATCH_SECONDS, time.monotonic() - BATCH_SECONDS)
            time.sleep(max(next_at - time.monotonic(), 0))
    return batches


def _answered(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return response.json()
