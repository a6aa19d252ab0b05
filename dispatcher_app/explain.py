"""explain(run): every gate in one fixed order, open or closed, with what it waits for and when it is likely to open.

The gates are the ones that release asks: the same functions on the same numbers, and in the end the same choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from dispatcher_app import gate_texts, holders
from dispatcher_app.acceptance import judge_run, open_periods
from dispatcher_app.gates import Opening, labels, openings, target
from dispatcher_app.holders import Holder
from dispatcher_app.lanes import Lane, lane_of
from dispatcher_app.limits import Room, measure
from dispatcher_app.release import Selection, select
from dispatcher_app.routes import load as load_routes
from tasks_app.dependencies import Verdict
from tasks_app.models import Run
from tasks_app.pauses import pause_at
from tasks_app.states import TERMINAL, RunState
from workers_app.models import Worker, WorkerState
from workers_app.secrets_of_runs import why_not

SHARED = (
    "overlap",
    "key",
    "pool",
    "resource_capacity",
    "resource_rate",
    "resource_window",
    "resource_breaker",
    "rate",
    "backfill",
    "labels",
    "routing",
)


@dataclass(slots=True)
class Gate:
    """One gate. `detail` is a sentence for people in their language; `estimate_at` is None where nothing is known."""

    name: str
    open: bool
    detail: str
    holders: list[Holder] = field(default_factory=list)
    estimate_at: datetime | None = None

    @property
    def label(self) -> str:
        return gate_texts.label(self.name)


@dataclass(slots=True)
class Explanation:
    """Why a run is where it is."""

    state: str
    gates: list[Gate]

    @property
    def first_closed(self) -> Gate | None:
        """What keeps it: the first gate that is closed."""
        return next((gate for gate in self.gates if not gate.open), None)


def explain(run: Run, now: datetime, *, visible: QuerySet[Run] | None = None) -> Explanation:
    """All gates of the run as they are at `now`.

    Holders are named out of `visible` alone (all runs where it is None): the runs that whoever asks may see.
    """
    visible = Run.objects.all() if visible is None else visible
    if run.state == RunState.WAITING:
        return Explanation(run.state, list(_waiting(run, now, visible)))
    if run.state == RunState.QUEUED:
        return Explanation(run.state, list(_queued(run, now, visible)))
    return Explanation(run.state, [_state(run)])


def _waiting(run: Run, now: datetime, visible: QuerySet[Run]) -> Iterator[Gate]:
    selection = select(now, lock=False)
    own = [_state(run), _hold(run), _due(run, now), _start_deadline(run, now)]
    own += [_upstream(run, visible), _period(run), _pause(run, now)]
    yield from own
    yield from _secrets(run)
    lane = lane_of(run)
    room = measure([lane], now, lock=False)
    shared = list(_shared(run, lane, room, selection, visible, now))
    yield from shared
    yield _turn(run, selection, all(gate.open for gate in own + shared))
    yield _worker(run, lane.task.pool_id, lane.task.pool, visible, now)


def _queued(run: Run, now: datetime, visible: QuerySet[Run]) -> Iterator[Gate]:
    yield _state(run)
    yield from _secrets(run)
    if run.target_id is None:
        yield _worker(run, run.pool_id, run.pool.name, visible, now)
        return
    lane = lane_of(run)
    routes = Room(now, routes=load_routes([run.task_id]))
    for opening in (*labels(lane, routes), *target(lane, routes)):
        yield Gate(opening.gate, opening.free > 0, gate_texts.shared(opening.gate, opening))
    yield _own_worker(run, visible, now)


# --- gates of the run itself ------------------------------------------------------------------------------------------


def _state(run: Run) -> Gate:
    return Gate("state", run.state not in TERMINAL, gate_texts.state(run))


def _hold(run: Run) -> Gate:
    text = _("It is held until somebody releases it.") if run.held else _("It is not held.")
    return Gate("hold", not run.held, text)


def _due(run: Run, now: datetime) -> Gate:
    if run.due_at <= now:
        return Gate("due", True, _("It is due."))
    text = _("Attempt %(number)d is due later.") % {"number": run.attempt} if run.attempt > 1 else _("It is due later.")
    return Gate("due", False, text, estimate_at=run.due_at)


def _start_deadline(run: Run, now: datetime) -> Gate:
    if run.expires_at is None:
        return Gate("start_deadline", True, _("It has no start deadline."))
    if run.attempt > 1:
        return Gate("start_deadline", True, _("It has started before; the deadline was for its first start."))
    if run.expires_at <= now:
        return Gate("start_deadline", False, _("Its start deadline has passed: it expires."))
    text = _("It expires unless it starts by %(at)s.") % {"at": gate_texts.moment(run.expires_at)}
    return Gate("start_deadline", True, text)


def _upstream(run: Run, visible: QuerySet[Run]) -> Gate:
    if run.upstream_ready:
        return Gate("upstream", True, _("It waits for no upstream run."))
    verdict = judge_run(run)
    if verdict is Verdict.START:
        return Gate("upstream", True, _("Its upstream runs are as its trigger rule wants."))
    pending = visible.filter(downstream_edges__downstream=run).exclude(state__in=sorted(TERMINAL)).order_by("pk")
    found = [Holder(*row) for row in pending.values_list("pk", "task__name", "state")[: holders.MOST]]
    if verdict is Verdict.WAIT:
        text = _("Upstream runs have not ended yet; its trigger rule is %(rule)s.") % {"rule": run.trigger_rule}
        return Gate("upstream", False, text, found)
    text = _("Its trigger rule %(rule)s cannot hold any more: it will not run.") % {"rule": run.trigger_rule}
    return Gate("upstream", False, text)


def _period(run: Run) -> Gate:
    waiting = [] if run.upstream_ready else open_periods(run)
    if not waiting:
        return Gate("period", True, _("It waits for no period of another task."))
    return Gate("period", False, gate_texts.periods(waiting))


def _pause(run: Run, now: datetime) -> Gate:
    mode = pause_at(run.task, now)
    if mode is None:
        return Gate("pause", True, _("Its task is not paused."))
    if mode == "drain":
        return Gate("pause", True, _("Its task is paused and finishes what waits."))
    reason = run.task.paused_reason
    text = _("Its task is paused: %(reason)s") % {"reason": reason} if reason else _("Its task is paused.")
    return Gate("pause", False, text, estimate_at=run.task.paused_until)


def _secrets(run: Run) -> Iterator[Gate]:
    """Of a run that needs some. It is not kept back without them: it fails as soon as a worker takes it."""
    if run.version.secrets:
        run.version.task = run.task
        missing = why_not(run.version)
        text = _("It will fail: %(why)s") % {"why": missing} if missing else _("It can have its secrets.")
        yield Gate("secrets", not missing, text)


# --- gates that runs share --------------------------------------------------------------------------------------------


def _shared(
    run: Run, lane: Lane, room: Room, selection: Selection, visible: QuerySet[Run], now: datetime
) -> Iterator[Gate]:
    found: dict[str, list[Opening]] = defaultdict(list)
    for opening in openings(lane, room):
        amount = run.weight if opening.gate == "pool" else opening.amount
        found[opening.gate].append(replace(opening, amount=amount))
    for name in SHARED:
        limits = found[name]
        closed = [opening for opening in limits if opening.free < opening.amount]
        text = " ".join(gate_texts.shared(name, opening) for opening in closed or limits) or gate_texts.unlimited(name)
        gate = Gate(name, not closed, text)
        if closed:
            gate.holders = _holders(name, run, lane, closed, visible, now)
            times = [opening.next_at for opening in closed if opening.next_at is not None]
            gate.estimate_at = max(times) if times else holders.soonest_end(gate.holders)
        if name == "overlap" and (skipped := selection.overlapped.skip.get(run.pk)):
            gate.open, gate.detail = False, _("It will be skipped: %(why)s") % {"why": skipped}
        yield gate


def _holders(
    name: str, run: Run, lane: Lane, closed: list[Opening], visible: QuerySet[Run], now: datetime
) -> list[Holder]:
    conditions = {
        "overlap": Q(task_id=run.task_id),
        "key": Q(task_id=run.task_id, concurrency_key=run.concurrency_key),
        "pool": Q(pool_id=lane.task.pool_id),
        "backfill": Q(backfill_id=run.backfill_id),
    }
    if name in ("resource_capacity", "resource_breaker"):
        return holders.live(holders.of_resources(opening.subject.id for opening in closed), visible, now)
    return holders.live(conditions[name], visible, now) if name in conditions else []


def _turn(run: Run, selection: Selection, others_open: bool) -> Gate:
    if not others_open:
        return Gate("turn", True, _("Its turn is decided once the other gates are open."))
    ids = [chosen.id for chosen in selection.chosen]
    if run.pk in ids or not run.upstream_ready:
        return Gate("turn", True, _("It starts at the next look of a dispatcher."))
    return Gate("turn", False, _("What is free goes to runs that come before it: %(n)d.") % {"n": len(ids)})


# --- workers ----------------------------------------------------------------------------------------------------------


def _worker(run: Run, pool_id: int, pool: str, visible: QuerySet[Run], now: datetime) -> Gate:
    online = list(Worker.objects.filter(pool_id=pool_id, state=WorkerState.ONLINE))
    if not online:
        return Gate("worker", False, _("No worker serves the pool %(pool)s: start one.") % {"pool": pool})
    executor = run.version.executor
    workers = {worker.pk: worker.slots for worker in online if worker.can(executor)}
    if not workers:
        text = _("The pool %(pool)s has agents alone, and none of them executes %(executor)s: start a worker there.")
        return Gate("worker", False, text % {"pool": pool, "executor": executor})
    busy = Run.objects.filter(state=RunState.RUNNING, worker_id__in=list(workers)).count()
    slots = sum(workers.values())
    values = {"workers": len(workers), "busy": busy, "slots": slots, "pool": pool}
    text = _("%(workers)d workers serve the pool %(pool)s; %(busy)d of their %(slots)d slots are taken.") % values
    if run.state != RunState.QUEUED or busy < slots:
        return Gate("worker", True, text)
    found = holders.live(Q(pool_id=pool_id, state=RunState.RUNNING), visible, now)
    return Gate("worker", False, text, found, holders.soonest_end(found))


def _own_worker(run: Run, visible: QuerySet[Run], now: datetime) -> Gate:
    """Of a run that was sent to one worker alone."""
    worker = Worker.objects.filter(pk=run.target_id or UUID(int=0)).first()
    if worker is None or worker.state != WorkerState.ONLINE:
        name, state = (worker.name, worker.state) if worker is not None else (run.target_id, "gone")
        text = _("It was sent to the worker %(name)s, which is %(state)s.") % {"name": name, "state": state}
        return Gate("worker", False, text)
    busy = Run.objects.filter(state=RunState.RUNNING, worker_id=worker.pk).count()
    values = {"name": worker.name, "busy": busy, "slots": worker.slots}
    text = _("It was sent to the worker %(name)s; %(busy)d of its %(slots)d slots are taken.") % values
    if busy < worker.slots:
        return Gate("worker", True, text)
    found = holders.live(Q(worker_id=worker.pk, state=RunState.RUNNING), visible, now)
    return Gate("worker", False, text, found, holders.soonest_end(found))
