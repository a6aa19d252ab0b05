"""Which of the ready runs start now: fair between keys, by priority with age, within every limit. Pure.

Between groups (tasks) the run with the highest effective priority goes first: its priority plus one point for each
`ageing` that it has waited, so that after 100 times `ageing` nothing that comes later can pass it. Inside a group its
keys take turns: first the key with the fewest live runs, among those the one served the longest ago. A run that lies
behind others of its key lends them its priority.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heapreplace
from typing import Protocol

LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
# A group and a concurrency key in it; None or '' stands for its runs without a key.
Place = tuple[int, str | None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that could start. `weight` is how many slots of its pool it takes; `key` its concurrency key, if any;
    `batch` what it was planned with (a backfill), if anything."""

    id: int
    group: int
    pool: str
    priority: int
    since: datetime
    key: str | None = None
    weight: int = 1
    batch: int | None = None


class Startable(Protocol):
    """What the choice asks of a run; Candidate is the plain form of it."""

    @property
    def id(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def pool(self) -> Hashable: ...
    @property
    def priority(self) -> int: ...
    @property
    def since(self) -> datetime: ...
    @property
    def key(self) -> str | None: ...
    @property
    def weight(self) -> int: ...
    @property
    def batch(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class PoolLimit:
    """Slots of a pool, or units of something else that runs share, and how many of them are free."""

    slots: int
    free: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What is left at `now`; a pool, group, key or batch that is not named has no limit.

    `pools` by what runs call theirs, `groups` free runs by group, `keys` free runs by place, `batches` free runs by
    batch. `uses` says by group what else each of its runs takes, as (name, amount), and `shared` how much there is of
    it. `live` and `last_started` by place say whose turn it is. `most` bounds the answer. `ageing` is the wait that is
    worth one point of priority. A run that is too heavy for the slots that are free and has waited for `patience` keeps
    them: what comes after it in its pool waits until it fits. The same holds for what is shared.
    """

    now: datetime
    pools: Mapping[Hashable, PoolLimit] = field(default_factory=dict)
    groups: Mapping[int, int] = field(default_factory=dict)
    keys: Mapping[Place, int] = field(default_factory=dict)
    live: Mapping[Place, int] = field(default_factory=dict)
    last_started: Mapping[Place, datetime] = field(default_factory=dict)
    batches: Mapping[int, int] = field(default_factory=dict)
    uses: Mapping[int, Sequence[tuple[Hashable, int]]] = field(default_factory=dict)
    shared: Mapping[Hashable, PoolLimit] = field(default_factory=dict)
    most: int | None = None
    ageing: timedelta = timedelta(seconds=30)
    patience: timedelta = timedelta(minutes=1)


def effective_priority(candidate: Startable, limits: Limits) -> float:
    """Its priority and what it has gained by waiting since `since`."""
    return candidate.priority + max(limits.now - candidate.since, timedelta(0)) / limits.ageing


def choose(candidates: Iterable[Startable], limits: Limits) -> list[int]:
    """The ids of the runs to start, in order. Takes O(n log n) for n candidates."""
    candidates = list(candidates)
    if _nothing_decides(candidates, limits):
        return [each.id for each in sorted(candidates, key=lambda each: _order(each, limits))]
    groups: dict[int, list[Startable]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.group].append(candidate)
    room = _Room(limits)
    chosen: list[int] = []
    heads = [
        _head(queue, _urgencies(queue, limits), 0) for queue in (_turns(group, limits) for group in groups.values())
    ]
    heapify(heads)
    while heads and (limits.most is None or len(chosen) < limits.most):
        head = heads[0]
        if room.take(head.candidate):
            chosen.append(head.candidate.id)
        if head.position + 1 < len(head.queue) and not room.group_is_full(head.candidate.group):
            heapreplace(heads, _head(head.queue, head.urgencies, head.position + 1))
        else:
            heappop(heads)
    return chosen


def _nothing_decides(candidates: Sequence[Startable], limits: Limits) -> bool:
    """Whether all of them start and no turns are to be taken, as most of the time."""
    if limits.pools or limits.groups or limits.keys or limits.batches or limits.shared:
        return False
    fits = limits.most is None or len(candidates) <= limits.most
    return fits and not any(each.key for each in candidates)


def _order(candidate: Startable, limits: Limits) -> tuple[float, datetime, int]:
    return (-effective_priority(candidate, limits), candidate.since, candidate.id)


def _turns(group: Sequence[Startable], limits: Limits) -> list[Startable]:
    """The runs of one group in the order of turns of its keys; runs without a key share one turn."""
    by_key: dict[str | None, list[Startable]] = defaultdict(list)
    for candidate in sorted(group, key=lambda each: _order(each, limits)):
        by_key[candidate.key].append(candidate)
    turns = []
    for key, queue in by_key.items():
        place = (queue[0].group, key)
        live = limits.live.get(place, 0)
        last = limits.last_started.get(place, LONG_AGO)
        for number, candidate in enumerate(queue):
            turns.append((live + number, last, -effective_priority(candidate, limits), candidate.id, candidate))
    turns.sort(key=lambda turn: turn[:4])
    return [turn[4] for turn in turns]


def _urgencies(queue: Sequence[Startable], limits: Limits) -> list[float]:
    """For each place in the queue, the highest effective priority from there on."""
    urgencies = [effective_priority(candidate, limits) for candidate in queue]
    for place in range(len(queue) - 2, -1, -1):
        urgencies[place] = max(urgencies[place], urgencies[place + 1])
    return urgencies


@dataclass(slots=True, eq=False)
class _Head:
    """The next run of a group; the most urgent one is the least."""

    order: tuple[float, datetime, int]
    queue: Sequence[Startable]
    urgencies: Sequence[float]
    position: int

    @property
    def candidate(self) -> Startable:
        return self.queue[self.position]

    def __lt__(self, other: _Head) -> bool:
        return self.order < other.order


def _head(queue: Sequence[Startable], urgencies: Sequence[float], position: int) -> _Head:
    candidate = queue[position]
    return _Head((-urgencies[position], candidate.since, candidate.id), queue, urgencies, position)


class _Room:
    """What is left of each limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._groups = dict(limits.groups)
        self._keys = dict(limits.keys)
        self._batches = dict(limits.batches)
        self._limit_of: dict[Hashable, PoolLimit] = {("pool", name): pool for name, pool in limits.pools.items()}
        self._limit_of |= limits.shared
        self._free = {name: limit.free for name, limit in self._limit_of.items()}

    def take(self, candidate: Startable) -> bool:
        """Whether the run fits; if so its slots are taken."""
        place = (candidate.group, candidate.key)
        if self.group_is_full(candidate.group) or self._keys.get(place, 1) <= 0:
            return False
        if candidate.batch is not None and self._batches.get(candidate.batch, 1) <= 0:
            return False
        if not self._take_shared(candidate):
            return False
        if candidate.group in self._groups:
            self._groups[candidate.group] -= 1
        if place in self._keys:
            self._keys[place] -= 1
        if candidate.batch in self._batches:
            self._batches[candidate.batch] -= 1
        return True

    def group_is_full(self, group: int) -> bool:
        return self._groups.get(group, 1) <= 0

    def _take_shared(self, candidate: Startable) -> bool:
        wanted = [(("pool", candidate.pool), candidate.weight), *self._limits.uses.get(candidate.group, ())]
        wanted = [(name, amount) for name, amount in wanted if name in self._free]
        short = [(name, amount) for name, amount in wanted if amount > self._free[name]]
        if not short:
            for name, amount in wanted:
                self._free[name] -= amount
            return True
        (name, amount), *others = short
        patient = self._limits.now - candidate.since < self._limits.patience
        if not patient and not others and amount <= self._limit_of[name].slots:
            # Else light runs would take each slot as it comes free, and a heavy one would never see enough of them.
            self._free[name] = 0
        return False
