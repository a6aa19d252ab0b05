"""TLS to every broker, with real handshakes: the other side is verified, and we show our certificate where asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.probes import RABBITMQ, REDIS
from tests.tls import Authority, TlsFront
from tests.workers_app import redis_keys
from workers_app import brokers, messages
from workers_app.doorbell import Publisher

pytestmark = [pytest.mark.rabbitmq, pytest.mark.redis]
HOST = "127.0.0.1"
SCHEMES = ["amqps", "rediss", "rediss-stream"]


@pytest.fixture(autouse=True)
def prefix(settings) -> Iterator[None]:
    with redis_keys.prefix() as settings.SCHEDULER_QUEUE_PREFIX:
        yield
        with brokers.connection(RABBITMQ.url(), seconds=5) as connection:
            messages.pool_queue("default")(connection.default_channel).delete()


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def front(scheme: str, certificate: Path, **options: Any) -> TlsFront:
    plain, port = (RABBITMQ.url(), 5672) if scheme == "amqps" else (REDIS.url(), 6379)
    return TlsFront(plain, port, certificate, **options)


def url_of(scheme: str, server: TlsFront, host: str = HOST) -> str:
    account = "guest:guest@" if scheme == "amqps" else ""
    return f"{scheme}://{account}{host}:{server.port}/" + ("/" if scheme == "amqps" else "")


def publish(url: str) -> int:
    publisher = Publisher(url)
    try:
        return publisher.publish([("default", [(1, 1)])])
    finally:
        publisher.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broker_with_a_certificate_of_the_known_authority_is_published_to(scheme, ours, settings):
    settings.SCHEDULER_BROKER_CA_PATH = str(ours.path)
    with front(scheme, ours.issue(HOST)) as server:
        assert brokers.refusal_of(url_of(scheme, server)) is None
        assert publish(url_of(scheme, server)) == 1
        assert server.handshakes > 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broker_of_another_authority_or_none_or_by_another_name_gets_no_word(scheme, ours, settings, tmp_path):
    other = Authority(tmp_path, "other")
    settings.SCHEDULER_BROKER_CA_PATH = str(ours.path)
    for certificate in (other.issue(HOST), ours.issue("elsewhere.example")):
        with front(scheme, certificate) as server:
            assert "certificate" in str(brokers.refusal_of(url_of(scheme, server))).lower()
            assert publish(url_of(scheme, server)) == 0
    settings.SCHEDULER_BROKER_CA_PATH = ""
    with front(scheme, ours.issue(HOST)) as server:
        assert publish(url_of(scheme, server)) == 0, "the machine does not know our authority"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broker_that_asks_for_a_certificate_is_shown_ours(scheme, ours, settings, tmp_path):
    settings.SCHEDULER_BROKER_CA_PATH = str(ours.path)
    with front(scheme, ours.issue(HOST), clients=ours) as server:
        assert publish(url_of(scheme, server)) == 0
        settings.SCHEDULER_BROKER_CERTIFICATE_PATH = str(Authority(tmp_path, "other").issue("worker"))
        assert publish(url_of(scheme, server)) == 0
        settings.SCHEDULER_BROKER_CERTIFICATE_PATH = str(ours.issue("worker"))
        assert publish(url_of(scheme, server)) == 1
