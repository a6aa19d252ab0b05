"""A nudge wakes whoever waits, once what it is about has committed; losing one costs no more than the wait."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from tasks_app.models import Project
from tasks_app.wakeup import Waiter, nudge

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def waiting(in_thread) -> Iterator[Waiter]:
    one = Waiter()
    yield one
    one.stop()
    one.close()


def test_a_nudge_from_another_connection_ends_the_wait(waiting, in_thread):
    listening = threading.Event()

    def wait() -> tuple[bool, float]:
        waiting.wait(0.2)
        listening.set()
        start = time.monotonic()
        return waiting.wait(20), time.monotonic() - start

    answer = in_thread(wait)
    assert listening.wait(10)
    nudge()
    woken, seconds = answer.result(20)
    assert woken and seconds < 10


def test_nothing_wakes_a_waiter_that_nobody_nudges(waiting):
    waiting.wait(0.2)
    waiting.wait(0.05)
    assert waiting.wait(0.2) is False


def test_a_nudge_counts_once_its_transaction_has_committed(waiting):
    waiting.wait(0.2)
    waiting.wait(0.05)
    with transaction.atomic():
        nudge()
        assert waiting.wait(0.2) is False
    assert waiting.wait(5) is True
    with transaction.atomic():
        nudge()
        transaction.set_rollback(True)
    assert waiting.wait(0.2) is False


def test_stopping_ends_a_wait_soon(waiting, in_thread):
    waiting.wait(0.2)
    start = time.monotonic()
    answer = in_thread(waiting.wait, 20)
    waiting.stop()
    answer.result(20)
    assert time.monotonic() - start < 5


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL keeps what it was told while nobody waited")
def test_what_another_process_wrote_between_two_waits_is_seen_although_the_connection_was_opened_anew(waiting):
    waiting.wait(0.2)
    waiting.wait(0.05)
    assert waiting.wait(0.2) is False
    connection.close()
    other = sqlite3.connect(connection.get_connection_params()["database"], uri=True)
    with other:
        other.execute("INSERT INTO tasks_app_project (name, description, created_at) VALUES ('x', '', '2026-01-01')")
    other.close()
    assert Project.objects.filter(name="x").exists()
    assert waiting.wait(5) is True
    assert waiting.wait(0.2) is False


@pytest.mark.postgresql
def test_a_waiter_that_lost_its_connection_listens_again(waiting):
    assert waiting.wait(0.1) is True
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
        )
    assert waiting.wait(0.1) is False
    assert waiting.wait(0.1) is True
    nudge()
    assert waiting.wait(5) is True
