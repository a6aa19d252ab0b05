"""Group commit: one bad item harms no other, an outage is waited out, nobody waits for ever."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait

import psycopg
import pytest
from django.db import DataError, OperationalError

from workers_app import batcher
from workers_app.batcher import Batcher, Closed

Work = Callable[[Sequence[int]], Sequence[int]]


@pytest.fixture
def make() -> Iterator[Callable[..., Batcher[int, int]]]:
    made: list[Batcher[int, int]] = []

    def make_one(work: Work, *, limit: int = 100, patience: float = 10.0) -> Batcher[int, int]:
        made.append(Batcher("test", work, limit=limit, patience=patience))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


class Gate:
    """Work that stops at its first batch until it is opened, so that what comes meanwhile makes one batch."""

    def __init__(self, work: Work) -> None:
        self.batches: list[list[int]] = []
        self.stopped, self.open = threading.Event(), threading.Event()
        self._work = work

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.stopped.set()
        assert self.open.wait(10)
        return self._work(items)


def doubled(items: Sequence[int]) -> list[int]:
    return [item * 2 for item in items]


def refusing(bad: int) -> Work:
    def work(items: Sequence[int]) -> list[int]:
        if bad in items:
            raise DataError("no such value")
        return doubled(items)

    return work


def test_what_comes_while_the_database_works_is_one_batch_and_each_gets_its_own_answer(make):
    gate = Gate(doubled)
    one = make(gate, limit=3)
    futures = [one.submit(0)]
    assert gate.stopped.wait(10)
    futures += [one.submit(number) for number in range(1, 6)]
    gate.open.set()
    assert [future.result(10) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert gate.batches == [[0], [1, 2, 3], [4, 5]]


def test_one_refused_item_does_not_fail_nor_delay_the_others_of_its_batch(make):
    gate = Gate(refusing(3))
    one = make(gate, patience=math.inf)
    futures = [one.submit(0)]
    assert gate.stopped.wait(10)
    futures += [one.submit(number) for number in range(1, 6)]
    gate.open.set()
    done, _open = wait(futures, timeout=10)
    assert len(done) == 6
    assert [future.exception() is None for future in futures] == [True, True, True, False, True, True]
    assert isinstance(futures[3].exception(), DataError)
    assert one.submit(9).result(10) == 18


def test_an_outage_is_waited_out(make):
    failures = iter([OperationalError("server closed the connection")] * 3)

    def work(items: Sequence[int]) -> list[int]:
        for error in failures:
            raise error
        return doubled(items)

    assert make(work).submit(2).result(10) == 4


def test_an_outage_longer_than_the_patience_reaches_the_waiter(make):
    def away(_items: Sequence[int]) -> list[int]:
        raise OperationalError("no route")

    with pytest.raises(OperationalError):
        make(away, patience=0.1).submit(1).result(10)


def test_what_is_too_deep_for_the_database_is_not_taken_for_an_outage(make):
    def too_deep(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise OperationalError("stack depth limit exceeded") from psycopg.errors.StatementTooComplex()
        return doubled(items)

    one = make(too_deep, patience=math.inf)
    with pytest.raises(OperationalError):
        one.submit(1).result(10)
    assert one.submit(2).result(10) == 4


def test_any_error_reaches_the_waiter_and_the_next_item_is_served(make):
    def work(items: Sequence[int]) -> list[int]:
        if items == [1]:
            raise KeyError("version")
        return doubled(items)

    one = make(work)
    with pytest.raises(KeyError):
        one.submit(1).result(10)
    assert one.submit(2).result(10) == 4


def test_closing_finishes_what_was_submitted_and_refuses_what_comes_later(make):
    gate = Gate(doubled)
    one = make(gate)
    futures = [one.submit(number) for number in range(5)]
    closing = threading.Thread(target=one.close)
    closing.start()
    gate.open.set()
    closing.join(10)
    assert [future.result(10) for future in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(Closed):
        one.submit(9).result(10)


def test_closing_does_not_wait_for_an_outage_without_end(make, monkeypatch):
    monkeypatch.setattr(batcher, "CLOSING_SECONDS", 0.2)

    def away(_items: Sequence[int]) -> list[int]:
        raise OperationalError("no route")

    one = make(away, patience=math.inf)
    future = one.submit(1)
    one.close()
    assert isinstance(future.exception(10), OperationalError)
