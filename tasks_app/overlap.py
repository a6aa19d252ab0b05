"""Overlap: what new runs of a task do while others of it wait or are live. Pure; the same for every way in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class OverlapPolicy(StrEnum):
    """What a new run does when the task has no slot left."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    QUEUE_ALL = "queue_all"
    CANCEL_RUNNING = "cancel_running"
    TERMINATE_RUNNING = "terminate_running"
    ALLOW = "allow"


class Action(StrEnum):
    """What becomes of one new run. All but `skip` are planned; one that waits or takes a place starts by its gates."""

    START = "start"
    WAIT = "wait"
    WAIT_REPLACE = "wait_replace"
    SKIP = "skip"
    CANCEL_RUNNING_THEN_START = "cancel_running_then_start"
    TERMINATE_RUNNING_THEN_START = "terminate_running_then_start"


@dataclass(frozen=True, slots=True)
class Overlapping:
    """What to do: one action for each new run in their order, earlier runs by id that are skipped, cancelled, ended."""

    actions: tuple[Action, ...]
    skip_waiting: tuple[int, ...] = ()
    cancel: tuple[int, ...] = ()
    terminate: tuple[int, ...] = ()


def decide(
    policy: OverlapPolicy, *, new: int, live: Sequence[int] = (), waiting: Sequence[int] = (), limit: int | None = None
) -> Overlapping:
    """The answer for `new` runs that arrive together, oldest first.

    `live` (queued or running) and `waiting` are ids of the task's earlier runs, oldest first; a run that waits for
    anything but a slot of its task (upstream runs, a later due time) is not among them. `limit` is the task's
    `max_concurrent`; None is no limit under `allow` and 1 under every other policy.

    `skip` starts as many as there are free slots, the oldest, and skips the rest. `queue_one` lets the newest of all
    that have no slot wait and skips the others, those already waiting too. `cancel_running` and `terminate_running`
    give the slots to the newest and end as many live runs, the oldest first, as that takes.
    """
    if not new or (limit is None and policy is OverlapPolicy.ALLOW):
        return Overlapping((Action.START,) * new)
    most = 1 if limit is None else max(limit, 1)
    free = min(new, max(most - len(live) - len(waiting), 0))
    late = new - free
    match policy:
        case OverlapPolicy.ALLOW | OverlapPolicy.QUEUE_ALL:
            return Overlapping(_start(free) + (Action.WAIT,) * late)
        case OverlapPolicy.SKIP:
            return Overlapping(_start(free) + (Action.SKIP,) * late)
        case OverlapPolicy.QUEUE_ONE:
            return _queue_one(free, late, live, waiting, most)
        case OverlapPolicy.CANCEL_RUNNING | OverlapPolicy.TERMINATE_RUNNING:
            return _replace(policy, new, live, waiting, most)
    raise AssertionError(policy)


def _queue_one(free: int, late: int, live: Sequence[int], waiting: Sequence[int], most: int) -> Overlapping:
    if not late:
        return Overlapping(_start(free))
    # Waiting runs that have a slot coming to them already are about to start: only the others are a queue.
    starting = max(most - len(live), 0)
    replaced = tuple(waiting[starting:])
    last = Action.WAIT_REPLACE if replaced else Action.WAIT
    return Overlapping((*_start(free), *(Action.SKIP,) * (late - 1), last), skip_waiting=replaced)


def _replace(policy: OverlapPolicy, new: int, live: Sequence[int], waiting: Sequence[int], most: int) -> Overlapping:
    placed = min(new, most)
    kept = max(most - placed, 0)
    # What is kept of the earlier runs: the newest, and a waiting run is newer than a live one.
    kept_waiting = min(len(waiting), kept)
    replaced = tuple(waiting[: len(waiting) - kept_waiting])
    ended = tuple(live[: max(len(live) - (kept - kept_waiting), 0)])
    cancelling = policy is OverlapPolicy.CANCEL_RUNNING
    ending = Action.CANCEL_RUNNING_THEN_START if cancelling else Action.TERMINATE_RUNNING_THEN_START
    taking = min(len(ended), placed)
    actions = (Action.SKIP,) * (new - placed) + _start(placed - taking) + (ending,) * taking
    return Overlapping(actions, replaced, cancel=ended if cancelling else (), terminate=() if cancelling else ended)


def _start(count: int) -> tuple[Action, ...]:
    return (Action.START,) * count
