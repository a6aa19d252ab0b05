"""Step 2: waiting runs whose gates are all open are queued, taking their slots in the same transaction."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from django.db import connection, transaction

from dispatcher_app import overlapping, routes
from dispatcher_app.fanout import fan_out
from dispatcher_app.gates import Opening, openings, passes
from dispatcher_app.lanes import Candidate, Cursor, Lane, candidates, due_lanes
from dispatcher_app.limits import Room, measure
from dispatcher_app.runtime_settings import SWEEP_SECONDS
from tasks_app import fairness, rowset, transitions
from tasks_app.fairness import LONG_AGO, PoolLimit, choose
from tasks_app.models import Pool, Run, TaskVersion

BATCH = 5000
# Few runs of each lane are read at first, and more of those lanes that turn out to be the best.
LEAST_OF_A_LANE = 32


@dataclass(frozen=True, slots=True)
class Released:
    """A queued run, with all that publishing it needs."""

    id: int
    attempt: int
    pool: str
    version_id: int
    executor: str
    # The worker to which alone it goes; None: the first of its pool that is free takes it.
    target: UUID | None = None


@dataclass(slots=True)
class Selection:
    """The runs that start, in order, and what was known of the limits; what overlap has decided on other runs."""

    chosen: list[Candidate] = field(default_factory=list)
    room: Room | None = None
    overlapped: overlapping.Decisions = field(default_factory=overlapping.Decisions)


def release_ready(now: datetime, *, actor: str, limit: int = BATCH, cursor: Cursor | None = None) -> list[Released]:
    """Queue up to `limit` waiting runs, best effective priority first, keys of a task by turns.

    Two dispatchers never take the same run or slot. `cursor` is kept by the caller from one call to the next, so that
    all lanes get their turn when there are more than one look takes.
    """
    with transaction.atomic():
        selection = select(now, limit=limit, cursor=cursor, lock=True)
        overlapping.apply(selection.overlapped, now=now, actor=actor)
        chosen = selection.chosen
        if not chosen:
            return []
        assert selection.room is not None
        chosen = fan_out(chosen, selection.room.routes, now=now, actor=actor)
        _follow_their_tasks(chosen)
        sweep_at = now + timedelta(seconds=SWEEP_SECONDS.value)
        targets = routes.targets_of(chosen, selection.room.routes)
        # Without a worker it would go to whichever of the pool asks first, with its labels or without.
        ids = [run.id for run in chosen if run.task_id not in selection.room.routes or run.id in targets]
        moved = set(transitions.enqueue(ids, now=now, sweep_at=sweep_at, actor=actor, targets=targets))
        chosen = [run for run in chosen if run.id in moved]
        _count_starts(chosen, selection.room, now)
        return describe(chosen, targets)


def select(now: datetime, *, limit: int = BATCH, cursor: Cursor | None = None, lock: bool) -> Selection:
    """Which runs the next tick starts, without moving any. With `lock` the runs and their limits are locked."""
    lanes = _without_closed(due_lanes(now, cursor), now)
    if not lanes:
        return Selection()
    room = measure(lanes, now, lock=lock)
    # With the limits of the task as they are under the lock.
    lanes = [replace(lane, task=room.tasks[lane.task.id]) for lane in lanes]
    overlapped, arrived = overlapping.look(lanes, room, now, lock=lock)
    limits = _limits(lanes, room, limit)
    chosen = _choose([lane for lane in lanes if not lane.task.decides], arrived, room, limits, lock)
    return Selection(chosen, room, overlapped)


def describe(runs: Sequence[Candidate] | Sequence[Run], targets: Mapping[int, UUID]) -> list[Released]:
    """Look up pool names and executors: two queries for any number of runs."""
    if not runs:
        return []
    pools = dict(Pool.objects.filter(pk__in={run.pool_id for run in runs}).values_list("pk", "name"))
    versions = TaskVersion.objects.filter(pk__in={run.version_id for run in runs})
    executors = dict(versions.values_list("pk", "executor"))
    return [
        Released(r.id, r.attempt, pools[r.pool_id], r.version_id, executors[r.version_id], targets.get(r.id))
        for r in runs
    ]


def _without_closed(lanes: list[Lane], now: datetime) -> list[Lane]:
    """Leave out tasks whose rate or resources are closed at a first look, so that their limits need not be locked."""
    asked = [lane for lane in lanes if (lane.task.rate_limit or lane.task.uses_resources) and not lane.task.decides]
    if not asked:
        return lanes
    room = measure(asked, now, lock=False)
    closed = {lane.task.id for lane in asked if any(o.free <= 0 and _of_task(o) for o in openings(lane, room))}
    return [lane for lane in lanes if lane.task.id not in closed]


def _of_task(opening: Opening) -> bool:
    return opening.gate not in ("key", "backfill")


def _choose(
    lanes: Sequence[Lane], arrived: list[Candidate], room: Room, limits: fairness.Limits, lock: bool
) -> list[Candidate]:
    """The best of `arrived` and of the runs of the lanes, within all limits.

    Of each lane only a part is read; where all of that part starts and there may be more, more is read and the choice
    made again: so the order between lanes is the same as if all had been read.
    """
    assert limits.most is not None
    passing = {lane: number for lane in lanes if (number := passes(lane, room, limits.most)) > 0}
    most = max(LEAST_OF_A_LANE, 2 * limits.most // max(len(passing), 1))
    read = {lane: min(number, most) for lane, number in passing.items()}
    runs = dict(zip(read, candidates(list(read.items()), room.now, lock=lock), strict=True))
    while True:
        by_id = {run.id: run for of_lane in (*runs.values(), arrived) for run in of_lane}
        ids = choose(by_id.values(), limits)
        taken = set(ids)
        more = {
            lane: min(passing[lane], number * 4)
            for lane, number in read.items()
            if number < passing[lane] and len(runs[lane]) == number and runs[lane][-1].id in taken
        }
        if not more:
            return [by_id[id] for id in ids]
        read |= more
        runs |= zip(more, candidates(list(more.items()), room.now, lock=lock), strict=True)


def _limits(lanes: Sequence[Lane], room: Room, limit: int) -> fairness.Limits:
    """The room as the choice wants it."""
    groups: dict[int, int] = {}
    keys: dict[fairness.Place, int] = {}
    batches: dict[int, int] = {}
    uses: dict[int, dict[Hashable, int]] = {}
    shared: dict[Hashable, PoolLimit] = {}
    for lane in lanes:
        for opening in openings(lane, room):
            match opening.gate:
                case "overlap" | "rate":
                    groups[lane.task.id] = min(groups.get(lane.task.id, limit), opening.free)
                case "key":
                    keys[lane.place] = opening.free
                case "backfill":
                    batches[lane.backfill] = opening.free
                case "labels" | "routing":
                    if opening.free <= 0:
                        groups[lane.task.id] = 0
                case "pool":
                    pass
                case _:
                    name = (opening.gate, opening.subject.id)
                    uses.setdefault(lane.task.id, {})[name] = opening.amount
                    shared[name] = PoolLimit(opening.total or opening.free, max(opening.free, 0))
    return fairness.Limits(
        room.now,
        pools={id: PoolLimit(pool.slots, max(pool.slots - pool.used, 0)) for id, pool in room.pools.items()},
        groups=groups,
        keys=keys,
        live=room.live_of_key,
        last_started=_last_started(lanes, room.now),
        batches=batches,
        uses={task: list(amounts.items()) for task, amounts in uses.items()},
        shared=shared,
        most=limit,
    )


def _last_started(lanes: Iterable[Lane], now: datetime) -> dict[fairness.Place, datetime]:
    """Whose turn it is among the keys of a task. When runs without a key last started is not known: they get their turn
    among the keys by lot, so that neither side waits for ever."""
    found: dict[fairness.Place, datetime] = {
        lane.place: lane.last_started for lane in lanes if lane.last_started is not None
    }
    served: dict[int, list[datetime]] = {}
    for (task_id, _key), at in found.items():
        served.setdefault(task_id, []).append(at)
    for task_id in served.keys() & {lane.task.id for lane in lanes if not lane.key}:
        # The same for every look at one moment, so that an explanation agrees with the tick.
        lot = Random(f"{task_id} {now}").randint(0, len(served[task_id]))  # noqa: S311  (nothing secret)
        found[task_id, ""] = sorted(served[task_id])[lot - 1] + timedelta(microseconds=1) if lot else LONG_AGO
    return found


def _follow_their_tasks(runs: Sequence[Candidate]) -> None:
    """A run starts in the pool that its task has now, also when it was planned before the task moved there."""
    strays: dict[int, list[int]] = {}
    for run in runs:
        if run.planned_pool_id != run.pool_id:
            strays.setdefault(run.pool_id, []).append(run.id)
    for pool_id, ids in strays.items():
        Run.objects.filter(pk__in=ids).update(pool_id=pool_id)


def _count_starts(runs: Sequence[Candidate], room: Room, now: datetime) -> None:
    """Write down the starts that count against a rate."""
    of_resources = {id for id, resource in room.resources.items() if resource.rate is not None}
    rated = {
        id
        for id, task in room.tasks.items()
        if task.rate_limit or any(resource in of_resources for resource, _ in room.uses.get(id, ()))
    }
    started = [{"task": run.task_id} for run in runs if run.task_id in rated]
    if started:
        at = "%s::timestamptz" if rowset.is_postgresql() else "%s"
        with connection.cursor() as cursor:
            cursor.execute(
                f"""INSERT INTO tasks_app_ratestart (task_id, at)
                SELECT task, {at} FROM {rowset.table("k", {"task": "bigint"})}""",
                [rowset.moment(now), rowset.encode(started)],
            )
