"""The choice of a worker for each queued run of a task that does not leave it to chance. Pure.

What a worker has to do counts at once: runs that are routed together are spread as if they came one by one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from heapq import heapify, heapreplace
from random import Random
from typing import Protocol
from uuid import UUID

from tasks_app.fairness import LONG_AGO
from tasks_app.label_expressions import Requirement
from tasks_app.routing import Routing

Turn = tuple[int, UUID]


@dataclass(slots=True, eq=False)
class Server:
    """A worker that takes runs. `running`, and `queued` to it alone, are numbers of runs; `cpu` is in percent;
    `executors` is what an agent offers, None: a worker of the broker, which has all."""

    id: UUID
    name: str
    labels: Mapping[str, str]
    slots: int
    running: int = 0
    queued: int = 0
    cpu: float = 0.0
    executors: Collection[str] | None = None

    def can(self, executor: str) -> bool:
        """Whether it can execute that."""
        return self.executors is None or executor in self.executors

    @property
    def has_room(self) -> bool:
        return self.running + self.queued < self.slots

    @property
    def pressure(self) -> tuple[float, float, str]:
        """How loaded it would be with one more run; less is better."""
        return (self.running + self.queued + 1) / max(self.slots, 1), self.cpu, self.name


@dataclass(slots=True)
class Route:
    """How the runs of a task find a worker, and which there are: those `online` in its pool that can execute it, those
    of them that are `matching` its labels, and the `targets` among which its strategy chooses."""

    task_id: int
    pool: str
    strategy: str = Routing.ANY
    requirement: Requirement = field(default_factory=lambda: Requirement(()))
    expression: str = ""
    key_parameter: str = ""
    names: Sequence[str] = ()
    shards: int | None = None
    executor: str = ""
    # All of the pool; `online` leaves out those that cannot execute it.
    servers: Sequence[Server] = ()
    online: list[Server] = field(init=False)
    matching: list[Server] = field(init=False)
    targets: list[Server] = field(init=False)

    def __post_init__(self) -> None:
        self.online = [server for server in self.servers if server.can(self.executor)]
        self.matching = [server for server in self.online if self.requirement.holds(server.labels)]
        self.targets = self._targets()

    @property
    def has_agents(self) -> bool:
        return any(server.executors is not None for server in self.servers)

    def of(self, executor: str) -> Route:
        """The route of runs that another version of the task has planned, with its executor."""
        return self if executor == self.executor else replace(self, executor=executor)

    @property
    def missing(self) -> list[str]:
        """The parts of the requirement that no worker of the pool has."""
        return self.requirement.unmet(server.labels for server in self.online)

    @property
    def may_move(self) -> bool:
        """Whether another worker will do as well as the one that was chosen."""
        return self.strategy not in (
            Routing.CONSISTENT_HASH, Routing.SPECIFIC, Routing.FAILOVER, Routing.BROADCAST,
        )  # fmt: skip

    def _targets(self) -> list[Server]:
        if self.strategy not in (Routing.SPECIFIC, Routing.FAILOVER):
            return self.matching
        by_name: dict[str, list[Server]] = defaultdict(list)
        for server in self.matching:
            by_name[server.name].append(server)
        return next((by_name[name] for name in self.names if name in by_name), [])


class Routable(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def task_id(self) -> int: ...


def assign(
    runs: Iterable[Routable],
    routes: Mapping[int, Route],
    *,
    keys: Mapping[int, str],
    last_turns: Mapping[Turn, datetime],
    random: Random,
) -> dict[int, UUID]:
    """{run id: id of its worker}, of the runs whose task has a route with a target.

    `keys` are the keys of runs by consistent hash, `last_turns` when each (task, worker) was last given a run. Counts
    what it gives to the servers.
    """
    chosen: dict[int, UUID] = {}
    choices: dict[int, Callable[[int], Server]] = {}
    for run in runs:
        route = routes.get(run.task_id)
        if route is None or not route.targets:
            continue
        if run.task_id not in choices:
            choices[run.task_id] = _choice(route, keys, last_turns, random)
        server = choices[run.task_id](run.id)
        server.queued += 1
        chosen[run.id] = server.id
    return chosen


def _choice(
    route: Route, keys: Mapping[int, str], last_turns: Mapping[Turn, datetime], random: Random
) -> Callable[[int], Server]:
    match route.strategy:
        case Routing.ROUND_ROBIN:
            return _by_turns(route, last_turns)
        case Routing.RANDOM:
            return lambda _run: random.choice(route.targets)
        case Routing.CONSISTENT_HASH:
            return _by_hash(route.targets, keys)
        case _:
            return _least_loaded(route.targets)


def _by_turns(route: Route, last_turns: Mapping[Turn, datetime]) -> Callable[[int], Server]:
    in_turn = sorted(
        route.targets, key=lambda server: (last_turns.get((route.task_id, server.id), LONG_AGO), server.name, server.id)
    )
    turns = deque(in_turn)

    def choose(_run: int) -> Server:
        turns.rotate(-1)
        return turns[-1]

    return choose


def _by_hash(targets: Sequence[Server], keys: Mapping[int, str]) -> Callable[[int], Server]:
    """Rendezvous hashing by name: when a worker comes or goes, only the keys that are its own move."""
    known: dict[str, Server] = {}

    def choose(run: int) -> Server:
        key = keys.get(run, "")
        if key not in known:
            known[key] = max(targets, key=lambda server: (_score(key, server.name), server.id))
        return known[key]

    return choose


def _score(key: str, name: str) -> bytes:
    return blake2b(f"{len(key)}:{key}{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _least_loaded(targets: Sequence[Server]) -> Callable[[int], Server]:
    heap = [(server.pressure, server.id.int, server) for server in targets]
    heapify(heap)

    def choose(_run: int) -> Server:
        # Pressure only grows, by runs of this task and of others: the first whose entry is of now is the least.
        while heap[0][0] != (now := heap[0][2].pressure):
            heapreplace(heap, (now, heap[0][1], heap[0][2]))
        return heap[0][2]

    return choose
