"""What the machine moves: two dispatchers, workers that never execute by themselves, a broker that loses and repeats.

Everything that decides is the product's own code; only clocks, broker and executors are stand-ins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from dispatcher_app.loop import Dispatcher
from tasks_app import rowset
from tests.tasks_app.making import NOW, make_worker
from workers_app import execution, finishing
from workers_app.doorbell import Message
from workers_app.execution import Execution
from workers_app.jobs import Active, Control, Result
from workers_app.messages import Pair
from workers_app.models import Worker, WorkerState

MOST_REMEMBERED = 30


class Clock:
    """`now` is what dispatchers, workers and people see, and may jump; `steady` is the database's, and never does."""

    def __init__(self) -> None:
        self.now = self.latest = self.steady = NOW

    def advance(self, seconds: float) -> None:
        self.steady += timedelta(seconds=seconds)
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let all that reads a clock by itself read this one."""
        clock = self

        class Now(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return clock.now

        monkeypatch.setattr(execution, "datetime", Now)
        monkeypatch.setattr(rowset, "database_now", lambda _connection=None: clock.steady)


class Broker:
    """Holds messages until somebody takes them; `deaf`, it loses what it is sent."""

    def __init__(self) -> None:
        self.queue: list[Message] = []
        self.history: list[Message] = []
        self.deaf = False
        self.unsent = 0

    def publish(self, batch: Iterable[Message]) -> int:
        messages = list(batch)
        if not self.deaf:
            self.queue += messages
            self.history = (self.history + messages)[-MOST_REMEMBERED:]
        return sum(len(pairs) for _pool, pairs in messages)

    def is_empty(self, pool: str) -> bool:
        return not any(name == pool for name, _pairs in self.queue)

    def close(self) -> None:
        pass


class _Directly:
    """Stands in for the batcher and its thread: each item is done where it is asked for, on this connection."""

    def __init__(self, _name: str, work: Callable[[Sequence[Any]], Sequence[Any]], **_options: object) -> None:
        self._work = work

    def submit(self, item: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self._work([item])[0])
        except Exception as error:  # noqa: BLE001  (as the batcher: whoever waits hears of it)
            future.set_exception(error)
        return future

    def ask(self, item: Any) -> Any:
        return self.submit(item).result()

    def close(self) -> None:
        pass


class _Execution(Execution):
    """Claims and finishes as a worker does; what it has begun ends when the machine says how."""

    def _execute_claimed(self, claimed: list[Active]) -> None:
        for active in claimed:
            self._sink(active)

    def end(self, active: Active, result: Result) -> None:
        assert active.sink is not None
        active.sink.close()
        self._complete([(active, active.sink, result)])


class Hand:
    """A worker process: its row, its lease as it believes in it, what it has begun."""

    def __init__(self, clock: Clock, broker: Broker, pool: Any) -> None:
        self._clock, self.pool = clock, pool
        lease = clock.steady + timedelta(seconds=settings.SCHEDULER_LEASE_SECONDS)
        self.row = make_worker(pool, slots=1000, lease_until=lease)
        self._lease_until = lease
        self._execution = _Execution(
            worker_id=self.row.pk, actor=self.row.name, ring=broker.publish, holds_lease=self.believes
        )

    @property
    def id(self) -> UUID:
        return UUID(str(self.row.pk))

    @property
    def begun(self) -> list[Active]:
        return list(self._execution.active.values())

    def believes(self) -> bool:
        """Whether it takes its lease for valid: never longer than the dispatchers do."""
        return self._clock.steady < self._lease_until

    def is_alive(self) -> bool:
        return Worker.objects.filter(pk=self.id, state=WorkerState.ONLINE).exists()

    def beat(self) -> bool:
        """As lifecycle.Node.beat: False when the lease was lost, and with it everything begun."""
        until = self._clock.steady + timedelta(seconds=settings.SCHEDULER_LEASE_SECONDS)
        moved = Worker.objects.filter(pk=self.id, state=WorkerState.ONLINE).update(lease_until=until)
        self._lease_until = until if moved else self._clock.steady
        return bool(moved)

    def take(self, pairs: Sequence[Pair]) -> None:
        self._execution.execute(list(pairs), self.pool.name)

    def end(self, active: Active, result: Result) -> None:
        self._execution.end(active, result)

    def stop(self, result: Result) -> None:
        """As a drain whose time is over: everything is ended and handed back or given up."""
        for active in self.begun:
            active.control.end(Control.STOPPING)
            self.end(active, result)
        Worker.objects.filter(pk=self.id, state=WorkerState.ONLINE).update(state=WorkerState.OFFLINE)


class World:
    """Clock, broker, dispatchers and workers of one example."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (execution, finishing):
            monkeypatch.setattr(module, "Batcher", _Directly)
        self.clock = Clock()
        self.clock.patch(monkeypatch)
        self.broker = Broker()
        self.dispatchers = [Dispatcher(publisher=self.broker) for _ in range(2)]  # type: ignore[arg-type]
        self.hands: list[Hand] = []

    def hire(self, pool: Any) -> Hand:
        self.hands.append(Hand(self.clock, self.broker, pool))
        return self.hands[-1]

    def tick(self, which: int, *, deaf: bool = False, rescue_too: bool = True) -> None:
        """One tick; `deaf`: the dispatcher dies before it has published anything."""
        self.broker.deaf = deaf
        try:
            # Its own pace, which it keeps by a clock that stands still here.
            self.dispatchers[which]._periods_at = 0.0
            self.dispatchers[which].tick(self.clock.now, rescue_too=rescue_too)
        finally:
            self.broker.deaf = False
        self.clock.latest = max(self.clock.latest, self.clock.now)

    def begun(self) -> list[tuple[Hand, Active]]:
        return [(hand, active) for hand in self.hands for active in hand.begun]

    def utc(self) -> datetime:
        return self.clock.now.astimezone(UTC)
