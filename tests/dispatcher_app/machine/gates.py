"""A model of the gates that time and outcomes open: rates, circuit breakers and windows of resources."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tasks_app.breaker import DEFAULT_CAPACITY
from tasks_app.models import Resource
from tasks_app.states import LIVE
from tests.dispatcher_app.machine.instants import is_closed
from tests.dispatcher_app.machine.limits import Limits
from tests.dispatcher_app.machine.snapshot import Runs, Seen

FAILURES, OPEN_SECONDS, OPEN_SECONDS_AT_MOST = 2, 20, 60
LONGEST_WINDOW = timedelta(seconds=90)


@dataclass(slots=True)
class Start:
    """A start that counts against rates. Once it has left every window it may be forgotten, and need not be."""

    task: int
    at: datetime
    forgettable: bool = False


@dataclass(slots=True)
class Breaker:
    """A circuit breaker as it ought to be, but for its clock: it knows what was released since it turned."""

    state: str = "closed"
    until: datetime | None = None
    failures: int = 0
    openings: int = 0
    wave: int = 0
    good: int = 0
    # (run, attempt) that were released since it turned.
    since: set[tuple[int, int]] = field(default_factory=set)
    # (run, attempt, whether its target answered), in the order of their ends; told by the next tick.
    untold: list[tuple[int, int, bool]] = field(default_factory=list)
    # Times do not tell what came first once the clock was set back: then it follows what the row says.
    exact: bool = True

    def trip(self, now: datetime) -> None:
        seconds = min(OPEN_SECONDS * 2**self.openings, OPEN_SECONDS_AT_MOST)
        self._turn("open", until=now + timedelta(seconds=seconds), openings=self.openings + 1)

    def reset(self) -> None:
        if self.state == "closed":
            self.failures = 0
        else:
            self._turn("closed")

    def _turn(self, state: str, *, until: datetime | None = None, openings: int = 0, wave: int = 0) -> None:
        self.state, self.until, self.openings, self.wave = state, until, openings, wave
        self.failures = self.good = 0
        self.since = set()
        self.exact = True

    def ticked(
        self, now: datetime, row: Resource, runs: Runs, users: Collection[Seen], fresh: Collection[Seen]
    ) -> None:
        """`users` are the live runs that use the resource; `fresh` are those of them that the tick has released."""
        untold, self.untold = self.untold, []
        if self.exact:
            for run, attempt, answered in untold:
                if run in runs and (run, attempt) in self.since:
                    self._hear(answered, now, row.capacity or DEFAULT_CAPACITY)
            # It turns when somebody asks: only then is a probe let through.
            if self.state == "open" and row.breaker_state == "half_open" and now >= (self.until or now):
                self._turn("half_open", openings=self.openings, wave=1)
            self._check(row)
        else:
            self._follow(row, now)
        self.since |= {(run.id, run.attempt) for run in fresh}
        assert self.state != "open" or not fresh, f"{fresh} have started behind an open breaker"
        if self.state == "half_open" and fresh:
            room = self.wave - self.good if self.exact else self.wave
            assert self.probes(users) <= room, f"{self.probes(users)} probes at {self}"

    def _hear(self, answered: bool, now: datetime, capacity: int) -> None:
        if self.state == "closed":
            self.failures = 0 if answered else self.failures + 1
            if self.failures >= FAILURES:
                self.trip(now)
        elif self.state == "half_open":
            self.good += 1
            if not answered:
                self.trip(now)
            elif self.good == self.wave and self.wave * 2 > capacity:
                self._turn("closed")
            elif self.good == self.wave:
                self.wave, self.good = self.wave * 2, 0

    def _check(self, row: Resource) -> None:
        found = (row.breaker_state, row.breaker_open_until, row.breaker_failures_in_a_row)
        assert found == (self.state, self.until, self.failures), f"the breaker is {found}, not {self}"
        wave = (row.breaker_wave, row.breaker_wave_successes)
        assert wave == (self.wave, self.good), f"the breaker is at {wave}, not {self}"

    def _follow(self, row: Resource, now: datetime) -> None:
        if row.breaker_state != self.state:
            self._turn(row.breaker_state)
            self.exact = row.breaker_changed_at == now
        self.until, self.failures, self.openings = (
            row.breaker_open_until,
            row.breaker_failures_in_a_row,
            row.breaker_openings,
        )
        self.wave, self.good = row.breaker_wave, row.breaker_wave_successes

    def probes(self, users: Iterable[Seen]) -> int:
        return sum((run.id, run.attempt) in self.since for run in users)

    def is_closed(self, now: datetime, users: Iterable[Seen]) -> bool:
        """Whether it keeps a run from starting, or may do so."""
        if self.state == "half_open":
            return not self.exact or self.wave - self.good <= self.probes(users)
        return self.state == "open" and now < (self.until or now)


class Gates:
    """Those of one example. `ticked` is told of every tick, `ended` of every attempt that says how its target is."""

    def __init__(self, target: Resource | None) -> None:
        self._starts: list[Start] = []
        self.breakers = {target.pk: Breaker()} if target is not None and target.breaker_failures else {}

    def ended(self, run: Seen, answered: bool | None, users: Iterable[int]) -> None:
        for breaker in self.breakers.values():
            if answered is not None and run.task_id in users:
                breaker.untold.append((run.id, run.attempt, answered))

    def ticked(self, now: datetime, before: Runs, after: Runs, limits: Limits) -> None:
        """Follow the tick, and hold what it has released against what was open."""
        live = [run for run in after.values() if run.state in LIVE]
        fresh = [run for run in live if run.id not in before or before[run.id].state not in LIVE]
        self._starts += [Start(run.task_id, now) for run in fresh]
        for run in fresh:
            for seconds, most, tasks in _rates(run, limits):
                count = self._count(tasks, now, seconds, certain=True)
                assert count <= most, f"the rate of {tasks} is {most} in {seconds} s; there were {count} starts"
            for id in limits.takes[run.task_id]:
                closed = limits.resources[id].calendar_id is not None and is_closed(now)
                assert not closed, f"{run} has started while its resource is closed"
        for start in self._starts:
            start.forgettable |= start.at <= now - LONGEST_WINDOW
        for id, breaker in self.breakers.items():
            row = limits.resources[id]
            breaker.ticked(now, row, after, _users(id, live, limits), _users(id, fresh, limits))

    def set_back(self) -> None:
        """The clock was."""
        for breaker in self.breakers.values():
            breaker.exact = False

    def is_closed(self, run: Seen, now: datetime, live: Iterable[Seen], limits: Limits) -> bool:
        """Whether one of these keeps the run from starting."""
        for seconds, most, tasks in _rates(run, limits):
            if self._count(tasks, now, seconds, certain=False) >= most:
                return True
        for id in limits.takes[run.task_id]:
            if limits.resources[id].calendar_id is not None and is_closed(now):
                return True
            breaker = self.breakers.get(id)
            if breaker is not None and breaker.is_closed(now, _users(id, live, limits)):
                return True
        return False

    def _count(self, tasks: Iterable[int], now: datetime, seconds: int, *, certain: bool) -> int:
        opens = now - timedelta(seconds=seconds)
        return sum(one.task in tasks and one.at > opens and not (certain and one.forgettable) for one in self._starts)


def _users(resource: int, runs: Iterable[Seen], limits: Limits) -> list[Seen]:
    return [run for run in runs if resource in limits.takes[run.task_id]]


def _rates(run: Seen, limits: Limits) -> list[tuple[int, int, set[int]]]:
    """(window in seconds, starts, tasks whose starts count) of each rate that the run is under."""
    task, found = limits.tasks[run.task_id], []
    if task.rate_limit and task.rate_window_seconds:
        found.append((task.rate_window_seconds, task.rate_limit, {task.pk}))
    for id in limits.takes[task.pk]:
        resource = limits.resources[id]
        if resource.rate_limit and resource.rate_window_seconds:
            users = {user for user, takes in limits.takes.items() if id in takes}
            found.append((resource.rate_window_seconds, resource.rate_limit, users))
    return found
