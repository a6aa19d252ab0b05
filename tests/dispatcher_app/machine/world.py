"""What the machine moves: two dispatchers, workers that never execute by themselves, a broker that loses and repeats.

Everything that decides is the product's own code; only clocks, broker and executors are stand-ins.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from dispatcher_app.loop import Dispatcher
from tests.dispatcher_app.machine.clock import Clock
from tests.dispatcher_app.machine.hands import Hand, Stage
from tests.dispatcher_app.machine.processes import Process
from workers_app.doorbell import Message
from workers_app.jobs import Active

MOST_REMEMBERED = 30


class Broker:
    """Holds messages until somebody takes them; `deaf`, it loses what it is sent."""

    def __init__(self) -> None:
        self.queue: list[Message] = []
        self.history: list[Message] = []
        self.published: list[Message] = []
        # Where workers were told that they are held for dead.
        self.fenced: set[str] = set()
        self.deaf = False
        self.unsent = 0

    def publish(self, batch: Iterable[Message]) -> int:
        everything = list(batch)
        messages = [message for message in everything if not message[0].startswith("fence.")]
        if not self.deaf:
            self.fenced |= {address for address, _pairs in everything if address.startswith("fence.")}
            self.queue += messages
            self.published += messages
            self.history = (self.history + messages)[-MOST_REMEMBERED:]
        return sum(len(pairs) for _pool, pairs in messages)

    def is_empty(self, pool: str) -> bool:
        return not any(name == pool for name, _pairs in self.queue)

    def close(self) -> None:
        pass


class World:
    """Clock, broker, dispatchers and workers of one example."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.clock.patch(monkeypatch)
        # Rows are ordered by these as well: the same example has the same ones.
        numbers = itertools.count(1)
        monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))
        self.broker = Broker()
        self._stage = Stage(monkeypatch, self.clock, self.broker)
        self.dispatchers = [Dispatcher(publisher=self.broker) for _ in range(2)]  # type: ignore[arg-type]
        self.hands: list[Hand] = []

    def hire(self, pool: Any) -> Hand:
        self.hands.append(Hand(self.clock, self._stage, pool))
        return self.hands[-1]

    def tick(self, which: int, *, deaf: bool = False, rescue_too: bool = True) -> list[Message]:
        """One tick, and what it has published; `deaf`: the dispatcher dies before that."""
        self.broker.deaf, before = deaf, len(self.broker.published)
        try:
            # Its own pace, which it keeps by a clock that stands still here.
            self.dispatchers[which]._periods_at = 0.0
            self.dispatchers[which].tick(self.clock.now, rescue_too=rescue_too)
        finally:
            self.broker.deaf = False
        self.clock.latest = max(self.clock.latest, self.clock.now)
        return self.broker.published[before:]

    def time_passes(self, seconds: float, *, frozen: bool = False) -> None:
        """`frozen`: no worker notices, only their reapers do."""
        awake = [hand for hand in self.hands if not (frozen or hand.frozen or hand.reaper.gave_up)]
        self.clock.advance(seconds)
        for hand in awake:
            hand.reaper.was_told_all_along()
        for hand in self.hands:
            if frozen:
                hand.reaper.look()
            else:
                hand.go_on()
        self.replace_the_gone()

    def replace_the_gone(self) -> None:
        """As what starts the workers does."""
        for hand in [hand for hand in self.hands if hand.gone]:
            self.hands.remove(hand)
            self.hire(hand.pool)

    def begun(self) -> list[tuple[Hand, Active]]:
        return [(hand, active) for hand in self.hands for active in hand.begun]

    def processes(self) -> list[Process]:
        return [process for hand in self.hands for process in hand.reaper.processes if process.alive]
