"""Queued runs that went to one worker alone and were not claimed in time: to the same one again, or to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from dispatcher_app import routes
from dispatcher_app.release import Released, describe
from dispatcher_app.routing import Route, Server
from dispatcher_app.runtime_settings import SWEEP_SECONDS
from tasks_app import rowset, transitions
from tasks_app.models import Run
from tasks_app.routing import Routing
from tasks_app.states import Reason, RunState
from tasks_app.wakeup import nudge
from workers_app.messages import worker_address
from workers_app.models import Worker, WorkerState

LONGEST_SWEEP = timedelta(minutes=5)
# Clocks of two dispatchers may differ by so much.
SKEW = timedelta(seconds=30)
_MAY_TAKE = (WorkerState.ONLINE, WorkerState.CORDONED)


def overdue(now: datetime) -> QuerySet[Run]:
    """Queued runs that it is time to look at.

    Nothing is put off for longer than the longest pause. What lies further ahead was put off before the clock was set
    back, and would else be passed over for as long as it was set back.
    """
    longest = max(LONGEST_SWEEP, timedelta(seconds=SWEEP_SECONDS.value))
    time_has_come = Q(sweep_at__lte=now) | Q(sweep_at__gt=now + longest + SKEW)
    return Run.objects.filter(time_has_come, state=RunState.QUEUED)


def find_stranded(now: datetime, *, is_empty: Callable[[str], bool], limit: int, actor: str) -> list[Released]:
    """Runs to be published again, to the worker that each has now.

    A run whose worker takes no runs any more goes to another one, as its task chooses; where there is none it waits.
    One whose message is lost goes to the same worker again. One that waits behind others of a busy worker goes to one
    that has room, where its task does not care which. A part of a broadcast is for its own worker: it waits while that
    is cordoned, and is cancelled once that has left.
    """
    stranded = overdue(now).filter(target_id__isnull=False)
    targets = stranded.order_by().values_list("target_id", flat=True).distinct()
    known = {target for target in targets if target is not None}
    if not known:
        return []
    pools = set(Worker.objects.filter(pk__in=known).order_by().values_list("pool_id", flat=True))
    online = {server.id: server for found in routes.online_servers(pools).values() for server in found}
    # Before the transaction: the broker may take its time to answer.
    deaf = {id for id in known if id in online and _has_lost_messages(online[id], is_empty)}
    with transaction.atomic():
        rows = stranded.order_by("sweep_at", "pk").select_for_update(skip_locked=True, of=("self",), no_key=True)
        runs = list(rows.only("id", "attempt", "task_id", "pool_id", "version_id", "queued_at", "target_id")[:limit])
        if not runs:
            return []
        found = routes.load({run.task_id for run in runs})
        runs = _without_left(runs, found, online, now, actor)
        chosen = _targets(runs, found, online, deaf)
        _write(runs, chosen, online, now)
        return describe([run for run in runs if run.pk in chosen], chosen)


def _has_lost_messages(server: Server, is_empty: Callable[[str], bool]) -> bool:
    """A free worker with nothing in its queue has not got what was sent to it; to agents nothing is sent."""
    return server.executors is None and server.running < server.slots and is_empty(worker_address(server.id))


def _without_left(
    runs: list[Run], found: Mapping[int, Route], online: Mapping[UUID, Server], now: datetime, actor: str
) -> list[Run]:
    """Cancel the parts of broadcasts whose worker is gone for good; the other runs."""
    parts = [run for run in runs if _is_for_one_alone(found[run.task_id]) and run.target_id not in online]
    if not parts:
        return runs
    kept = set(Worker.objects.filter(pk__in={run.target_id for run in parts}, state__in=_MAY_TAKE).values_list("pk"))
    left = [run.pk for run in parts if (run.target_id,) not in kept]
    detail = "Its worker has left without it; a broadcast is for the workers that are there."
    gone = transitions.cancel_unstarted(left, now=now, actor=actor, detail=detail, reason=Reason.WORKER_LEFT)
    if gone:
        nudge()
    return [run for run in runs if run.pk not in gone]


def _is_for_one_alone(route: Route) -> bool:
    return route.strategy == Routing.BROADCAST


def _targets(
    runs: Sequence[Run], found: Mapping[int, Route], online: Mapping[UUID, Server], deaf: set[UUID]
) -> dict[int, UUID]:
    """The worker of each run that is to be published again."""
    homeless = [run for run in runs if run.target_id not in online and not _is_for_one_alone(found[run.task_id])]
    chosen = routes.targets_of(homeless, found)
    executors = routes.executors_of(runs, found)
    for run in runs:
        target = run.target_id
        if target is None or target not in online:
            continue
        route = found[run.task_id]
        if run.version_id in executors:
            route = route.of(executors[run.version_id])
        if target in deaf:
            chosen[run.pk] = target
        elif (server := _with_room(route, target)) is not None:
            server.queued += 1
            chosen[run.pk] = server.id
    return chosen


def _with_room(route: Route, target: UUID) -> Server | None:
    free = [server for server in route.targets if server.has_room and server.id != target] if route.may_move else []
    return min(free, key=lambda server: server.pressure, default=None)


def _write(runs: Sequence[Run], targets: Mapping[int, UUID], online: Mapping[UUID, Server], now: datetime) -> None:
    """Where each run goes, and when it is looked at again: soon, unless it only waits for its turn."""
    least = timedelta(seconds=SWEEP_SECONDS.value)
    rows = []
    for run in runs:
        waits = run.target_id in online and run.pk not in targets
        pause = min(max(now - (run.queued_at or now), least), LONGEST_SWEEP) if waits else least
        rows.append({"id": run.pk, "target": targets.get(run.pk, run.target_id), "sweep_at": now + pause})
    columns = {"id": "bigint", "target": "uuid", "sweep_at": "timestamptz"}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE tasks_app_run AS run SET sweep_at = k.sweep_at, target_id = k.target
            FROM {rowset.table("k", columns)} WHERE run.id = k.id""",
            [rowset.encode(rows)],
        )
