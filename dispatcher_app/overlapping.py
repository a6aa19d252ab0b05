"""Overlap at release: what becomes of the ready runs of tasks whose policy decides on runs that find no slot.

Every way in (schedule, trigger, retry, rerun, the end of a pause, backfill) ends in a ready run, so this is the one
place that asks. Runs that wait for anything but a slot of their own task, as for their turn in a backfill, have not
arrived yet; a full pool or a closed resource makes an arrived run wait and changes nothing about the decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dispatcher_app.gates import backfill
from dispatcher_app.lanes import Candidate, Lane, LaneTask, candidates
from dispatcher_app.limits import Room
from tasks_app import transitions
from tasks_app.ending import ask_to_end
from tasks_app.models import Run
from tasks_app.overlap import Action, Overlapping, OverlapPolicy, decide
from tasks_app.states import LIVE, Reason, RunState
from tasks_app.wakeup import nudge

MOST_ARRIVALS = 5000


@dataclass(slots=True)
class Decisions:
    """Ready runs that need not run, and live ones that are to end for newer ones: {id: sentence}, in all."""

    skip: dict[int, str] = field(default_factory=dict)
    cancel: list[int] = field(default_factory=list)
    terminate: list[int] = field(default_factory=list)


def look(lanes: Sequence[Lane], room: Room, now: datetime, *, lock: bool) -> tuple[Decisions, list[Candidate]]:
    """Decide on all due runs of the lanes whose task decides: the decisions, and the runs that may start or wait."""
    arrivals = _arrivals([lane for lane in lanes if lane.task.decides], room, now, lock)
    decisions, kept = Decisions(), []
    live = _live(arrivals)
    for task_id, new in arrivals.items():
        task = room.tasks[task_id]
        found = _decide(task, len(new), live[task_id])
        for run, action in zip(new, found.actions, strict=True):
            if action is Action.SKIP:
                decisions.skip[run.id] = _sentence(task, live[task_id])
            else:
                kept.append(run)
        decisions.cancel += found.cancel
        decisions.terminate += found.terminate
    return decisions, kept


def apply(decisions: Decisions, *, now: datetime, actor: str) -> None:
    """Settle what is skipped and ask that what is replaced ends; a replaced run that was only queued is cancelled."""
    if decisions.skip:
        verdicts = {id: (RunState.SKIPPED, str(Reason.OVERLAP), text) for id, text in decisions.skip.items()}
        transitions.settle(verdicts, now=now, actor=actor)
    ended = _end(decisions.cancel, now, actor, kill=False) + _end(decisions.terminate, now, actor, kill=True)
    if decisions.skip or ended:
        nudge()


def _end(ids: list[int], now: datetime, actor: str, *, kill: bool) -> int:
    if not ids:
        return 0
    # Live ones alone: what went back to waiting meanwhile is a new arrival.
    live = Run.objects.filter(pk__in=ids, state__in=sorted(LIVE))
    return ask_to_end(live, now=now, actor=actor, detail=REPLACED, kill=kill)


REPLACED = "A newer run of the task takes its place (overlap policy)."


def _arrivals(lanes: Sequence[Lane], room: Room, now: datetime, lock: bool) -> dict[int, list[Candidate]]:
    """The arrived runs of each task, oldest first."""
    wanted = []
    for lane in lanes:
        most = min((opening.runs for opening in backfill(lane, room)), default=MOST_ARRIVALS)
        if most > 0:
            wanted.append((lane, most))
    found: dict[int, list[Candidate]] = defaultdict(list)
    by_backfill: dict[int, list[Candidate]] = defaultdict(list)
    for (lane, _), runs in zip(wanted, candidates(wanted, now, lock=lock), strict=True):
        if lane.backfill:
            by_backfill[lane.backfill] += runs
        else:
            found[lane.task.id] += runs
    for id, runs in by_backfill.items():
        # Its lanes share its room.
        state = room.backfills[id]
        for run in sorted(runs, key=_age)[: max(state.limit - state.live, 0)]:
            found[run.task_id].append(run)
    return {task_id: sorted(runs, key=_age) for task_id, runs in found.items()}


def _age(run: Candidate) -> tuple[datetime, int]:
    return run.since, run.id


def _decide(task: LaneTask, new: int, live: Sequence[int]) -> Overlapping:
    return decide(OverlapPolicy(task.overlap), new=new, live=live, limit=task.max_concurrent)


def _sentence(task: LaneTask, live: Sequence[int]) -> str:
    if live:
        return f"{_numbers(live)} of the task had not ended (overlap policy {task.overlap})."
    return f"Another run of the task took the slot (overlap policy {task.overlap})."


def _numbers(ids: Sequence[int]) -> str:
    named = ", ".join(f"#{id}" for id in ids[:3])
    return f"Run {named}" if len(ids) == 1 else f"Runs {named}" + (", …" if len(ids) > 3 else "")


def _live(task_ids: Iterable[int]) -> dict[int, list[int]]:
    """Ids of the live runs of each task, oldest first."""
    found: dict[int, list[int]] = {id: [] for id in task_ids}
    if found:
        live = Run.objects.filter(state__in=sorted(LIVE), task_id__in=found).order_by("queued_at", "pk")
        for task_id, id in live.values_list("task_id", "pk"):
            found[task_id].append(id)
    return found
