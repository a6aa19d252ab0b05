"""Races are staged, not slept for: one side holds its transaction open until the other side has met its lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import connection, transaction

LONGEST = 20.0


class Held:
    """A call whose transaction stays open until `commit`; its locks are held meanwhile."""

    def __init__(self, in_thread: Callable[..., Future[Any]], call: Callable[[], Any]) -> None:
        self._done, self._go = threading.Event(), threading.Event()
        self._future = in_thread(self._body, call)
        while not self._done.wait(0.05) and not self._future.done():
            pass
        if self._future.done():
            self._future.result()

    def _body(self, call: Callable[[], Any]) -> Any:
        with transaction.atomic():
            answer = call()
            self._done.set()
            assert self._go.wait(LONGEST)
        return answer

    def commit(self) -> Any:
        """Let it commit; answers what the call returned."""
        self._go.set()
        return self._future.result(LONGEST)


@pytest.fixture
def hold(in_thread: Callable[..., Future[Any]]) -> Iterator[Callable[[Callable[[], Any]], Held]]:
    """`hold(call)`: the call has been made, its transaction is still open."""
    held: list[Held] = []

    def start(call: Callable[[], Any]) -> Held:
        held.append(Held(in_thread, call))
        return held[-1]

    yield start
    for one in held:
        one._go.set()


@pytest.fixture
def blocked(in_thread: Callable[..., Future[Any]]) -> Callable[[Callable[[], Any]], Future[Any]]:
    """`blocked(call)`: the call is under way on another connection and waits there for a lock."""

    def start(call: Callable[[], Any]) -> Future[Any]:
        future = in_thread(call)
        pause = threading.Event()
        for _ in range(int(LONGEST / 0.02)):
            if _somebody_waits():
                return future
            if future.done():
                pytest.fail(f"it did not wait for the lock, but answered {future.result()!r}")
            pause.wait(0.02)
        pytest.fail("it neither waits for a lock nor ends")

    return start


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


@pytest.fixture
def together(in_thread: Callable[..., Future[Any]]) -> Callable[..., list[Any]]:
    """`together(call, call, ...)`: all calls at the same moment, each on its own connection; answers or errors."""

    def start(*calls: Callable[[], Any]) -> list[Any]:
        barrier = threading.Barrier(len(calls))

        def body(call: Callable[[], Any]) -> Any:
            connection.ensure_connection()
            barrier.wait(LONGEST)
            return call()

        futures = [in_thread(body, call) for call in calls]
        return [future.exception(LONGEST) or future.result() for future in futures]

    return start
