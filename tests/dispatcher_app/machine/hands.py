"""Workers of the machine: the product's own node, with the loops, executors and processes that the machine gives it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from tasks_app.states import Reason, RunState
from tests.dispatcher_app.machine.clock import Clock
from tests.dispatcher_app.machine.processes import Process, Reaper
from workers_app import execution, finishing, lifecycle
from workers_app.execution import Execution
from workers_app.jobs import Active, Result
from workers_app.lifecycle import Node
from workers_app.messages import Pair, fence_address
from workers_app.models import HOLDING_A_LEASE, Worker
from workers_app.ownership import LeaseLost

SLOTS = 1000


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

    on_begin: Callable[[Active], None]

    def _execute_claimed(self, claimed: list[Active]) -> None:
        for active in claimed:
            self._sink(active)
            self.on_begin(active)

    def end(self, active: Active, result: Result) -> None:
        assert active.sink is not None
        active.sink.close()
        self._complete([(active, active.sink, result)])


@dataclass(slots=True)
class _Loop:
    """What a thread of a worker does again and again."""

    seconds: float
    step: Callable[[], None]
    due_at: datetime


class _Node(Node):
    """Leaves its loops to the machine."""

    execution: _Execution

    def __init__(self, clock: Clock, **options: Any) -> None:
        self._clock = clock
        self._loops: list[_Loop] = []
        super().__init__(**options)

    def _every(self, seconds: float, name: str, step: Callable[[], None]) -> None:
        pause = timedelta(seconds=seconds)
        self._loops.append(_Loop(seconds, step, self._clock.steady + pause))

    def go_round(self) -> None:
        """Each loop whose time has come, once."""
        now = self._clock.steady
        for loop in self._loops:
            if now >= loop.due_at:
                loop.due_at = now + timedelta(seconds=loop.seconds)
                try:
                    loop.step()
                except LeaseLost:
                    self._die()
                    return

    @property
    def holds_lease(self) -> bool:
        return self._holds_lease()


class Hand:
    """A worker process. `frozen`, it does nothing for a while, which it does not notice; `gone`, it never will."""

    def __init__(self, clock: Clock, stage: Stage, pool: Any) -> None:
        self._clock, self._stage, self.pool = clock, stage, pool
        self.frozen = self.gone = False
        self.reaper = Reaper(clock)
        self._node = _Node(clock, pool=pool, slots=SLOTS, labels={})
        self._node.execution.on_begin = self._begin
        with stage.of(self):
            self._node.start()

    @property
    def id(self) -> UUID:
        return self._node.id

    @property
    def begun(self) -> list[Active]:
        return [] if self.gone else list(self._node.execution.active.values())

    @property
    def believes(self) -> bool:
        """Whether it takes its lease for valid."""
        with self._stage.of(self):
            return not self.gone and self._node.holds_lease

    @property
    def may_report(self) -> bool:
        """Whether it writes down how a run ended: what ends after its reaper gave up has not ended by itself."""
        return not self.reaper.gave_up

    @property
    def takes(self) -> bool:
        """Whether it takes messages, and up what they announce; without a lease it would wait with one in its hand."""
        return self.believes and not self.frozen and not self._node.execution.refusing

    def take(self, pairs: Sequence[Pair]) -> None:
        with self._stage.of(self):
            self._node.execution.execute(list(pairs), self.pool.name)

    def end(self, active: Active, result: Result) -> None:
        if (process := self._process_of(active)) is not None:
            process.alive = False
        with self._stage.of(self):
            self._node.execution.end(active, result)

    def go_on(self) -> None:
        """Time has passed: for one that is frozen nobody but its reaper has noticed."""
        if self.frozen:
            self.reaper.look()
            return
        with self._stage.of(self):
            self._node.go_round()
        for process in self.reaper.processes:
            process.grow_older()

    def watch(self) -> None:
        with self._stage.of(self):
            self._node.watch()

    def stop(self) -> None:
        """As by SIGTERM, without time for what it has begun."""
        with self._stage.of(self):
            self._node.drain(0)
        self.vanish()

    def vanish(self) -> None:
        """As by SIGKILL: the pipe to its reaper is closed with it."""
        self.gone = True
        self.reaper.close()

    def end_what_was_asked(self) -> None:
        """What TERM or KILL ends as they should. Its time is not looked at."""
        ended = Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED)
        for active in self.begun:
            if active.control.why is not None:
                self.end(active, ended)

    def check(self, seconds: float) -> None:
        """After `seconds` it believes in its lease no longer than the others do, and has ended itself without."""
        row = Worker.objects.get(pk=self.id)
        holds_it = row.state in HOLDING_A_LEASE and row.lease_until >= self._clock.steady
        assert holds_it or not self.believes, f"I5: {row.name} is {row.state} and takes runs"
        noticed = not self.frozen and seconds >= settings.SCHEDULER_HEARTBEAT_SECONDS
        assert holds_it or not noticed, f"I5: {row.name} is {row.state} and goes on"
        assert not (noticed and self.reaper.gave_up), f"I5: {row.name} goes on after its reaper gave up"

    def _begin(self, active: Active) -> None:
        self.reaper.processes = [process for process in self.reaper.processes if process.alive]
        self.reaper.processes.append(Process(self._clock, self.id, active))

    def _process_of(self, active: Active) -> Process | None:
        job = active.job
        mine = (job.run_id, job.attempt)
        return next((one for one in self.reaper.processes if (one.run_id, one.attempt) == mine), None)


def _notices(broker: Any, worker: UUID) -> Any:
    return SimpleNamespace(told=lambda: fence_address(worker) in broker.fenced, close=lambda: None)


class Stage:
    """What of its process and its machine a node reaches for by name: those of the hand that is at work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock, publisher: Any) -> None:
        self._hand: Hand | None = None
        clock.on_sleep = self._on_sleep
        for module in (execution, finishing):
            monkeypatch.setattr(module, "Batcher", _Directly)
        monkeypatch.setattr(lifecycle, "Execution", _Execution)
        monkeypatch.setattr(lifecycle, "Publisher", lambda: publisher)
        monkeypatch.setattr(lifecycle, "Notices", lambda worker: _notices(publisher, worker))
        pool = SimpleNamespace(close=lambda: None, origins=set)
        monkeypatch.setattr(lifecycle, "hosts", SimpleNamespace(pool=pool))
        monkeypatch.setattr(lifecycle, "folders", SimpleNamespace(folder=SimpleNamespace(close=lambda: None)))
        monkeypatch.setattr(lifecycle, "remains", SimpleNamespace(own_folder=lambda _mark: None, collect=lambda: None))
        process = SimpleNamespace(getpid=os.getpid, _exit=self._on_exit)
        monkeypatch.setattr(lifecycle, "os", process)
        monkeypatch.setattr(lifecycle, "end_strays", lambda _active: 0)
        monkeypatch.setattr(lifecycle, "raise_file_limit", lambda: None)
        for module in (lifecycle, execution):
            monkeypatch.setattr(module, "reaper", self)

    @contextmanager
    def of(self, hand: Hand) -> Iterator[None]:
        before, self._hand = self._hand, hand
        try:
            yield
        finally:
            self._hand = before

    def _on_sleep(self) -> None:
        self._at_work.end_what_was_asked()

    def _on_exit(self, _code: int) -> None:
        self._at_work.vanish()

    @property
    def _at_work(self) -> Hand:
        assert self._hand is not None
        return self._hand

    # As the reaper of this process.

    @property
    def gave_up(self) -> bool:
        return self._at_work.reaper.gave_up

    def start(self, mark: str, longest: float, _folder: object = None) -> None:
        self._at_work.reaper.start(mark, longest)

    def hear_crashes(self) -> None:
        """None is staged here."""

    def beat(self) -> None:
        self._at_work.reaper.beat()

    def close(self) -> None:
        self._at_work.reaper.close()
