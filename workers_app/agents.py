"""Agents: workers that come through the API. Register, beat, claim, leave; what they report stands in agent_reports.

An agent does no more than start processes and tell facts. What it gets, when a run is lost and what an end means is
decided here, by the code that serves the workers of the broker too.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from access_app import runtime
from access_app.models import WorkerKey
from tasks_app import transitions
from tasks_app.errors import InvalidInput, NotFound, PermissionRefused
from tasks_app.models import Pool, Run
from tasks_app.moves import Claimed
from tasks_app.rowset import database_now
from tasks_app.states import RunState
from tasks_app.wakeup import nudge
from workers_app import ownership
from workers_app.claiming import specs_of, taken_up
from workers_app.environment import run_variables
from workers_app.jobs import Active
from workers_app.load import Load
from workers_app.messages import Pair
from workers_app.models import HOLDING_A_LEASE, Worker, WorkerState
from workers_app.naming import WORKER_NAME, is_label
from workers_app.outcomes import outcome_of
from workers_app.runtime_settings import AGENT_POLL_SECONDS, KILL_GRACE_SECONDS

# What an agent can execute. The others need this code, its settings, or rules on addresses that are checked here.
EXECUTORS = ("shell", "python")
MOST_SLOTS = 1000
MOST_LABELS = 100
# All agents together ask no more often than this a second.
MOST_POLLS = 50.0


class PoolRefused(PermissionRefused):
    """The worker key is not for this pool; use a key that is, or name another pool."""

    code = "pool_not_allowed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What an agent says of itself when it starts. Without a name it gets one for this start."""

    slots: int
    executors: Sequence[str]
    pool: str = ""
    name: str = ""
    host: str = ""
    pid: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    code_version: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an agent is to ask and to beat, and how long its lease is, in seconds."""

    poll_seconds: float
    heartbeat_seconds: float
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Orders:
    """What an agent learns with each beat and claim: its state, and which attempts are to end and how (of Control)."""

    state: str
    ends: Mapping[Pair, str]
    runs: Sequence[Active] = ()


def actor_name(worker: Worker) -> str:
    return f"worker {worker.name}"


def find(key: WorkerKey, worker_id: uuid.UUID) -> Worker:
    """The worker, when it came with this key. Raises NotFound."""
    worker = Worker.objects.select_related("pool").filter(pk=worker_id, key=key).first()
    if worker is None:
        raise NotFound
    return worker


def register(key: WorkerKey, wish: Wish) -> Worker:
    """A new worker, online, with a lease. Raises PoolRefused, or InvalidInput at the field that is wrong."""
    pool = _pool(key, wish.pool)
    _check(wish)
    id = uuid.uuid4()
    worker = ownership.register(
        id=id,
        pool=pool,
        slots=wish.slots,
        name=wish.name or f"{wish.host or 'agent'}-{wish.pid}-{id.hex[:6]}",
        host=wish.host,
        pid=wish.pid,
        labels=dict(wish.labels),
        key=key,
        executors=sorted(set(wish.executors)),
        code_version=wish.code_version,
    )
    # Runs may wait for a worker with its labels.
    nudge()
    return worker


def _pool(key: WorkerKey, name: str) -> Pool:
    pools = list(Pool.objects.filter(worker_keys=key).order_by("name"))
    if not name:
        if len(pools) != 1:
            names = ", ".join(pool.name for pool in pools)
            raise InvalidInput(pool=_("Name one of the pools of the worker key: %(names)s.") % {"names": names})
        return pools[0]
    found = next((pool for pool in pools if pool.name == name), None)
    if found is None:
        raise PoolRefused
    return found


def _check(wish: Wish) -> None:
    if wish.name and not WORKER_NAME.fullmatch(wish.name):
        raise InvalidInput(name=_("A name has 1 to 200 letters, digits, dots, dashes and underscores."))
    if len(wish.labels) > MOST_LABELS:
        raise InvalidInput(labels=_("A worker has at most %(n)d labels.") % {"n": MOST_LABELS})
    for name, value in wish.labels.items():
        if not is_label(name, value):
            raise InvalidInput(
                labels=_("The label %(name)s must look like NAME=VALUE; a name begins with a letter.") % {"name": name}
            )
    if not wish.executors:
        raise InvalidInput(executors=_("Name one executor at least."))


def pace() -> Pace:
    """The pace of now: the more agents there are, the less often each of them asks."""
    runtime.refresh()
    agents = Worker.objects.filter(key__isnull=False, state__in=HOLDING_A_LEASE).count()
    poll = max(AGENT_POLL_SECONDS.value, agents / MOST_POLLS)
    return Pace(poll, settings.SCHEDULER_HEARTBEAT_SECONDS, settings.SCHEDULER_LEASE_SECONDS)


def beat(worker: Worker, load: Load, held: Iterable[Pair], *, draining: bool = False) -> Orders:
    """Renew the lease. `held` is what the agent has under way; `draining`: it wants to leave. Raises LeaseLost."""
    state = ownership.renew(worker.pk, load)
    if draining and state != WorkerState.DRAINING:
        ownership.enter(worker.pk, WorkerState.DRAINING)
        state = WorkerState.DRAINING
    ends, _own = ownership.look(worker.pk, held)
    return Orders(state, ends)


def leave(worker: Worker) -> None:
    """Sign off. What it still had is given away."""
    ownership.enter(worker.pk, WorkerState.OFFLINE)


def claim(worker: Worker, held: Collection[Pair], *, now: datetime) -> Orders:
    """Give the agent runs for its free slots. Raises LeaseLost.

    What it owns and does not hold was claimed by a call whose answer got lost: that comes first, again. Two calls at
    once wait for each other at the row of the worker, so that together they take no more than its slots.
    """
    runtime.refresh()
    with transaction.atomic():
        worker = Worker.objects.select_for_update(no_key=True).get(pk=worker.pk)
        if worker.state not in HOLDING_A_LEASE:
            raise ownership.LeaseLost
        ends, own = ownership.look(worker.pk, held)
        runs = _again(worker, own - set(held), now)
        free = worker.slots - len(own)
        # Without its lease it may be about to lose all that it has: it must beat before it gets more.
        if free > 0 and worker.state == WorkerState.ONLINE and worker.lease_until > database_now():
            runs += _fresh(worker, free, bool(own), now)
        return Orders(worker.state, ends, runs)


def _again(worker: Worker, pairs: Collection[Pair], now: datetime) -> list[Active]:
    if not pairs:
        return []
    rows = Run.objects.filter(pk__in=[run for run, _attempt in pairs], worker_id=worker.pk, state=RunState.RUNNING)
    columns = ("pk", "attempt", "task_id", "version_id", "nominal_at", "params", "shard_index", "shard_total")
    claimed = [Claimed(*row) for row in rows.order_by("pk").values_list(*columns, "memory_limit_mb", "alone")]
    return _taken_up(worker, claimed, now)


def _fresh(worker: Worker, most: int, busy: bool, now: datetime) -> list[Active]:
    """Queued runs of its pool and those for it alone, in the order in which they were released.

    A run that is to have its worker for itself waits until the agent is not `busy`, and nothing is begun before it.
    """
    if busy and Run.objects.filter(state=RunState.RUNNING, worker_id=worker.pk, alone=True).exists():
        return []
    rows = Run.objects.filter(state=RunState.QUEUED, version__executor__in=worker.executors or ())
    rows = rows.filter(Q(target_id=worker.pk) | Q(target_id__isnull=True, pool_id=worker.pool_id))
    # By `sweep_at`, which has an index: it is set with `queued_at`.
    rows = rows.order_by("sweep_at", "-priority", "pk")
    rows = rows.select_for_update(skip_locked=True, of=("self",), no_key=True)
    found = list(rows.values_list("pk", "attempt", "alone")[:most])
    first_alone = next((place for place, (_pk, _attempt, alone) in enumerate(found) if alone), len(found))
    if first_alone == 0 and not busy:
        first_alone = 1
    pairs = [(pk, attempt) for pk, attempt, _alone in found[:first_alone]]
    if not pairs:
        return []
    claimed = transitions.claim(pairs, worker_id=worker.pk, now=now, actor=actor_name(worker))
    order = {pk: place for place, (pk, _attempt) in enumerate(pairs)}
    return _taken_up(worker, sorted(claimed, key=lambda run: order[run.id]), now)


def _taken_up(worker: Worker, claimed: Sequence[Claimed], now: datetime) -> list[Active]:
    """The jobs of the runs; those that cannot be executed at all end here."""
    specs = specs_of({run.version_id for run in claimed})
    jobs = taken_up(claimed, specs, now=now)
    refused = [outcome_of(active, active.refusal, now) for active in jobs if active.refusal is not None]
    if refused:
        transitions.finish(refused, worker_id=worker.pk, now=now, actor=actor_name(worker))
        nudge()
    return [active for active in jobs if active.refusal is None]


def described(active: Active) -> dict[str, Any]:
    """A run as an agent gets it: all that it needs to execute it."""
    job = active.job
    return {
        "id": job.run_id,
        "attempt": job.attempt,
        "task": job.task_name,
        "executor": job.executor,
        "command": job.command,
        "environment": run_variables(job),
        "secrets": sorted(job.secrets),
        "timeout_seconds": job.timeout_seconds,
        "kill_grace_seconds": KILL_GRACE_SECONDS.value,
        "output_bytes": settings.SCHEDULER_OUTPUT_BYTES,
        "line_bytes": settings.SCHEDULER_LINE_BYTES,
    }
