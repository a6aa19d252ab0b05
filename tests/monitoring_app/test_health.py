"""Alive and ready: the one open address, and the parts that a failing one names."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from dispatcher_app.models import Dispatcher
from monitoring_app import health
from tests.api.client import default_pool, is_problem
from workers_app.models import Worker, WorkerState


@pytest.fixture
def client(api, charlie):
    return api(charlie)


@pytest.fixture
def dispatcher(db):
    now = timezone.now()
    return Dispatcher.objects.create(name="d", started_at=now, beat_at=now)


@pytest.fixture
def worker(db):
    now = timezone.now()
    return Worker.objects.create(
        id=uuid4(),
        name="w",
        host="h",
        pid=1,
        pool=default_pool(),
        slots=1,
        started_at=now,
        beat_at=now,
        lease_until=now + timedelta(seconds=15),
    )


def parts(client, status):
    response = client.get("/health/ready")
    assert response.status_code == status, response.content
    content = response.json()
    assert content["status"] == ("ok" if status == 200 else "failed")
    return {name for name, text in content["parts"].items() if text != "ok"}


@pytest.mark.parametrize("path", ["/health", "/health/", "/health/live", "/health/live/"])
def test_liveness_needs_no_login_no_database_and_says_nothing_else(path):
    response = Client().get(path)
    assert response.status_code == 200 and response.json() == {"status": "ok"}
    assert Client().post(path).status_code == 405


def test_ready_when_every_part_is(client, dispatcher, worker):
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "parts": {"database": "ok", "broker": "ok", "dispatcher": "ok", "workers": "ok"},
    }


def test_each_part_that_fails_is_named(client, dispatcher, worker):
    Dispatcher.objects.update(beat_at=timezone.now() - timedelta(seconds=31))
    assert parts(client, 503) == {"dispatcher"}
    Worker.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert parts(client, 503) == {"dispatcher", "workers"}
    Dispatcher.objects.update(beat_at=timezone.now() - timedelta(seconds=20))
    Worker.objects.update(lease_until=timezone.now() + timedelta(seconds=9), state=WorkerState.OFFLINE)
    assert parts(client, 503) == {"workers"}
    Worker.objects.update(state=WorkerState.DRAINING)
    assert parts(client, 200) == set()


def test_without_the_database_there_are_no_parts_to_name(client, dispatcher, worker, monkeypatch):
    def away():
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(health, "database_now", away)
    assert is_problem(client.get("/health/ready"), 503)["code"] == "database_unavailable"


def test_a_broker_that_refuses_is_named_at_once(client, dispatcher, worker, settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.SCHEDULER_BROKER_URL = f"amqp://127.0.0.1:{free.getsockname()[1]}//"
        assert parts(client, 503) == {"broker"}


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_accepts_and_never_speaks_costs_two_seconds(scheme):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"{scheme}://127.0.0.1:{deaf.getsockname()[1]}//"
        probe = health.BrokerProbe(health._connect)
        started = time.monotonic()
        assert probe.ask(url) != "ok"
        assert time.monotonic() - started < 3


def test_a_hanging_probe_is_asked_again_by_nobody_until_it_ends():
    gate, calls = threading.Event(), []

    def hang(url):
        calls.append(url)
        gate.wait(10)

    probe = health.BrokerProbe(hang, seconds=0.05)
    assert [probe.ask("amqp://x") == "ok" for _ in range(3)] == [False, False, False]
    assert len(calls) == 1
    gate.set()
    assert probe._asked is not None
    probe._asked.result(5)
    assert probe.ask("amqp://x") == "ok" and len(calls) == 2


@pytest.mark.rabbitmq
def test_a_broker_that_answers_is_ok():
    from scripts.probes import RABBITMQ

    assert health.BrokerProbe(health._connect).ask(RABBITMQ.url()) == "ok"


@pytest.mark.redis
def test_a_redis_that_answers_is_ok():
    from scripts.probes import REDIS

    assert health.BrokerProbe(health._connect).ask(REDIS.url()) == "ok"
