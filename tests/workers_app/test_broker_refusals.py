"""A broker that cannot be used now says why, soon; one that can keeps nothing of the question."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from scripts.private_servers import free_port
from scripts.probes import RABBITMQ, REDIS
from tests.workers_app import redis_keys
from workers_app import brokers

STREAMS = REDIS.url().replace("redis://", "redis-stream://", 1)
SCHEMES = ["amqp", "redis", "redis-stream"]


@pytest.fixture(autouse=True)
def prefix(settings) -> Iterator[str]:
    with redis_keys.prefix() as one:
        settings.SCHEDULER_QUEUE_PREFIX = one
        yield one


@pytest.mark.rabbitmq
@pytest.mark.redis
@pytest.mark.parametrize("url", [RABBITMQ.url(), REDIS.url(), STREAMS])
def test_one_that_lets_us_have_a_queue_is_not_refused_and_keeps_nothing(url, prefix):
    assert brokers.refusal_of(url) is None
    with redis_keys.client() as server:
        assert list(server.scan_iter(f"{prefix}*")) == []


@pytest.mark.rabbitmq
@pytest.mark.parametrize(("account", "path"), [("guest:wrong", "/"), ("guest:guest", "no-such")])
def test_rabbitmq_that_does_not_know_us_is_refused_in_its_own_words(account, path):
    host = RABBITMQ.url().rpartition("@")[2].partition("/")[0]
    refusal = brokers.refusal_of(f"amqp://{account}@{host}/{path}")
    assert refusal is not None and ("ACCESS_REFUSED" in refusal or "vhost no-such not found" in refusal), refusal
    assert account not in refusal


@pytest.mark.redis
@pytest.mark.parametrize("scheme", ["redis", "redis-stream"])
def test_redis_that_does_not_know_us_is_refused_in_its_own_words(scheme):
    host = REDIS.url().removeprefix("redis://").rpartition("@")[2]
    refusal = brokers.refusal_of(f"{scheme}://nobody:hush@{host}")
    assert refusal is not None and "invalid username-password" in refusal
    assert "hush" not in refusal


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_that_is_not_there_is_refused(scheme):
    refusal = brokers.refusal_of(f"{scheme}://127.0.0.1:{free_port()}/0")
    assert refusal is not None and "refused" in refusal


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_that_takes_the_connection_and_says_nothing_is_refused_soon(scheme):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        refusal = brokers.refusal_of(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/0", seconds=0.5)
        assert refusal is not None
        assert time.monotonic() - began < 5
