"""The gates that runs share: how many more may pass each of them now. Pure: asked by release and by explain alike.

Each takes the lane that a run stands in and the room that was measured, and answers one Opening for each limit that
the run is subject to; none where there is no such limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatcher_app.lanes import Lane
from dispatcher_app.limits import ResourceRoom, Room
from tasks_app.calendar_documents import CalendarError
from tasks_app.models.backfill import BackfillState

# As many as there are.
UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Opening:
    """How many more runs may pass (`amount`: what one of them takes). `next_at`: when it is worth asking again, where
    time alone opens the gate. `subject` is what the limit is of, `facts` what a sentence about it needs."""

    gate: str
    free: int
    total: int | None = None
    amount: int = 1
    next_at: datetime | None = None
    subject: Any = None
    facts: tuple[Any, ...] = ()

    @property
    def runs(self) -> int:
        """How many runs may pass; something that is too much for what is free may still be next in line for it."""
        return 0 if self.free <= 0 else max(self.free // self.amount, 1)


def task_slots(lane: Lane, room: Room) -> Iterator[Opening]:
    task = lane.task
    if task.limit is not None:
        live = room.live.get(task.id, 0)
        yield Opening("overlap", task.limit - live, task.limit, facts=(live, task.limit))


def key_slots(lane: Lane, room: Room) -> Iterator[Opening]:
    if lane.key:
        task = lane.task
        live = room.live_of_key.get((task.id, lane.key), 0)
        yield Opening(
            "key", task.max_per_key - live, task.max_per_key, subject=lane.key, facts=(live, task.max_per_key)
        )


def pool_slots(lane: Lane, room: Room) -> Iterator[Opening]:
    pool = room.pools.get(lane.task.pool_id)
    if pool is not None:
        free = pool.slots - pool.used
        yield Opening("pool", free, pool.slots, subject=pool.name, facts=(pool.used, pool.slots))


def resources(lane: Lane, room: Room) -> Iterator[Opening]:
    for id, amount in room.uses.get(lane.task.id, ()):
        if (found := room.resources.get(id)) is not None:
            yield from _resource(found, amount, room.now)


def _resource(resource: ResourceRoom, amount: int, now: datetime) -> Iterator[Opening]:
    if resource.capacity is not None:
        free = resource.capacity - resource.used
        facts = (resource.used, resource.capacity, amount)
        yield Opening("resource_capacity", free, resource.capacity, amount, subject=resource, facts=facts)
    if resource.rate is not None:
        yield Opening("resource_rate", resource.rate.count, next_at=resource.rate.next_at, subject=resource)
    if isinstance(resource.calendar, CalendarError):
        yield Opening("resource_window", 0, subject=resource, facts=(str(resource.calendar),))
    elif resource.calendar is not None and not resource.calendar.allows(now):
        at, reason = resource.calendar.next_allowed(now), resource.calendar.reason(now)
        yield Opening("resource_window", 0, next_at=at, subject=resource, facts=(reason,))
    if resource.breaker.allowed is not None:
        next_at = resource.breaker.next_at
        yield Opening("resource_breaker", resource.breaker.allowed, next_at=next_at, subject=resource)


def task_rate(lane: Lane, room: Room) -> Iterator[Opening]:
    task = lane.task
    if (rate := room.rates.get(task.id)) is not None:
        yield Opening("rate", rate.count, next_at=rate.next_at, facts=(task.rate_limit, task.rate_window))


def backfill(lane: Lane, room: Room) -> Iterator[Opening]:
    if (found := room.backfills.get(lane.backfill)) is not None:
        active = found.state == BackfillState.ACTIVE
        free = found.limit - found.live if active else 0
        yield Opening(
            "backfill", free, found.limit, facts=(found.state, found.live, found.limit), subject=lane.backfill
        )


def labels(lane: Lane, room: Room) -> Iterator[Opening]:
    route = room.routes.get(lane.task.id)
    if route is not None and route.expression:
        yield Opening("labels", UNLIMITED if route.matching else 0, subject=route)


def target(lane: Lane, room: Room) -> Iterator[Opening]:
    route = room.routes.get(lane.task.id)
    if route is not None:
        # Where no worker has the labels, that is all there is to say.
        is_open = route.targets or (route.expression and not route.matching)
        yield Opening("routing", UNLIMITED if is_open else 0, subject=route)


SHARED: tuple[Callable[[Lane, Room], Iterator[Opening]], ...] = (
    task_slots,
    key_slots,
    pool_slots,
    resources,
    task_rate,
    backfill,
    labels,
    target,
)


def openings(lane: Lane, room: Room) -> Iterator[Opening]:
    """All limits that the runs of a lane are subject to, in the order in which they are told."""
    for gate in SHARED:
        yield from gate(lane, room)


def passes(lane: Lane, room: Room, most: int) -> int:
    """How many runs of the lane may start at most."""
    return min((opening.runs for opening in openings(lane, room)), default=most)
