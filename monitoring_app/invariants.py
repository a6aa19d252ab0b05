"""The invariants that always hold, asked of the rows: what is found here is a fault of this program, or of a hand.

Each check is a query over sets, most of them one statement, so that it sees one state of the tables. Those that would
read all history look at the runs that were planned since a given time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, F, Q, QuerySet

from monitoring_app.history import first_since
from monitoring_app.limit_invariants import over_limits
from monitoring_app.schedule_invariants import broken_but_armed, not_ahead, unanswered
from monitoring_app.violations import MOST_IDS, Scope, Violation
from tasks_app.models import Run, RunEvent, RunPeriod
from tasks_app.states import LIVE, TERMINAL, RunState
from workers_app.models import Worker, WorkerState

DEFAULT_WINDOW = timedelta(hours=24)
# Clocks of two machines may differ by so much.
SKEW = timedelta(seconds=5)
# A run that is past its limit of time by more than this should have been ended.
OUTLIVED = timedelta(minutes=2)
# A queued run that is older than this while slots are free should have been found.
OVERLOOKED = timedelta(minutes=10)
_EARLY_RULES = ("always", "one_failed", "one_success", "one_done")
Check = Callable[[Scope], Iterable[Violation]]


def check_invariants(now: datetime, *, since: datetime | None) -> list[Violation]:
    """Everything that does not hold. `since` bounds the checks that read history to the runs planned after it; None is
    all of it. The times of rows are compared with `now`."""
    scope = Scope(now, since, *_floors(since))
    return [violation for check in CHECKS.values() for violation in check(scope)]


def _floors(since: datetime | None) -> tuple[int, int]:
    """The least id of a run and of an event of the window."""
    if since is None:
        return 0, 0
    return first_since(Run, "created_at", since), first_since(RunEvent, "at", since)


def _once_per_instant(scope: Scope) -> Iterator[Violation]:
    # Grouped apart: the planner would else walk the whole index over schedules for the sake of its order.
    sql = """WITH recent AS MATERIALIZED (SELECT schedule_id, nominal_at FROM tasks_app_run
        WHERE id >= %s AND schedule_id IS NOT NULL)
        SELECT DISTINCT schedule_id FROM (SELECT schedule_id FROM recent GROUP BY schedule_id, nominal_at
        HAVING count(*) > 1) AS again"""
    yield from _found(
        "I1", "A schedule has two runs of one instant; the ids are schedules.", _ids(sql, [scope.first_run])
    )


def _attempts(scope: Scope) -> Iterator[Violation]:
    starts = RunEvent.objects.filter(pk__gte=scope.first_event, to_state=RunState.RUNNING).order_by()
    twice = starts.values_list("run_id", "attempt").annotate(n=Count("pk")).filter(n__gt=1)
    yield from _found("I3", "An attempt was started twice.", [row[0] for row in twice[: MOST_IDS + 1]])
    sql = """SELECT run.id FROM tasks_app_run AS run WHERE run.id >= %s AND run.attempt - (SELECT count(*)
        FROM tasks_app_runevent AS event WHERE event.run_id = run.id AND event.to_state = 'running') NOT IN (0, 1)"""
    yield from _found(
        "I3", "The attempt is neither that of the last start nor the next one.", _ids(sql, [scope.first_run])
    )


def _terminal_stays(scope: Scope) -> Iterator[Violation]:
    moved = RunEvent.objects.filter(pk__gte=scope.first_event, from_state__in=sorted(TERMINAL))
    yield from _found("I4", "A run that was over changed its state.", _keys(moved, "run_id"))


def _outlived(scope: Scope) -> Iterator[Violation]:
    """What the rows show of a process that lives too long: its limit of time is over and its run is not."""
    running = Run.objects.filter(state=RunState.RUNNING, started_at__lt=scope.now - OUTLIVED)
    rows = running.values_list("pk", "started_at", "version__timeout_seconds")
    late = [pk for pk, at, most in rows if at is not None and scope.now - at > timedelta(seconds=most) + OUTLIVED]
    yield from _found("I5", "A run is under way long after its limit of time.", late)


def _events(scope: Scope) -> Iterator[Violation]:
    sql = """SELECT run.id FROM tasks_app_run AS run WHERE run.id >= %s AND run.state <> coalesce((SELECT event.to_state
        FROM tasks_app_runevent AS event WHERE event.run_id = run.id ORDER BY event.id DESC LIMIT 1), '')"""
    yield from _found("I7", "The last event is not the state.", _ids(sql, [scope.first_run]))
    sql = """SELECT DISTINCT chain.run_id FROM (SELECT event.run_id, event.from_state, coalesce(lag(event.to_state)
        OVER (PARTITION BY event.run_id ORDER BY event.id), '') AS before FROM tasks_app_runevent AS event
        WHERE event.run_id >= %s) AS chain WHERE chain.from_state <> chain.before"""
    yield from _found("I7", "An event does not follow the one before.", _ids(sql, [scope.first_run]))


def _overlooked(scope: Scope) -> Iterator[Violation]:
    old = Run.objects.filter(state=RunState.QUEUED, queued_at__lt=scope.now - OVERLOOKED)
    old = old.filter(sweep_at__lt=scope.now - OVERLOOKED)
    if not old.exists():
        return
    busy = dict(Run.objects.filter(state=RunState.RUNNING).order_by().values_list("worker_id").annotate(n=Count("pk")))
    workers = Worker.objects.filter(state=WorkerState.ONLINE, lease_until__gt=scope.now)
    free = [worker for worker in workers if busy.get(worker.pk, 0) < worker.slots]
    # What was sent to one worker alone may wait for that one; agents do not take everything.
    taken = Q(target_id__in=[worker.pk for worker in free])
    taken |= Q(target_id__isnull=True, pool__in={worker.pool_id for worker in free if not worker.is_agent})
    for pool, executors in {(worker.pool_id, tuple(worker.executors)) for worker in free if worker.executors}:
        taken |= Q(target_id__isnull=True, pool=pool, version__executor__in=executors)
    old = old.filter(taken)
    yield from _found("I8", "A queued run is overlooked while slots are free.", _keys(old, "pk"))


def _no_start_after_cancel(scope: Scope) -> Iterator[Violation]:
    waits = Run.objects.filter(cancel_requested_at__isnull=False, state__in=(RunState.WAITING, RunState.QUEUED))
    yield from _found("I9", "A run that was asked to end waits for a start.", _keys(waits, "pk"))
    starts = RunEvent.objects.filter(pk__gte=scope.first_event, to_state=RunState.RUNNING)
    starts = starts.filter(run__cancel_requested_at__isnull=False, at__gt=F("run__cancel_requested_at") + SKEW)
    yield from _found("I9", "A run was started after it was asked to end.", _keys(starts, "run_id"))


def _upstream_first(scope: Scope) -> Iterator[Violation]:
    starts = RunEvent.objects.filter(run__gte=scope.first_run, to_state=RunState.RUNNING)
    other = sorted(set(RunState) - {RunState.SUCCEEDED})
    later = Q(run__upstream_edges__upstream__finished_at__gt=F("at") + SKEW)
    early = starts.filter(later | Q(run__upstream_edges__upstream__state__in=other), run__trigger_rule="all_success")
    yield from _found("I10", "A run started before its upstream runs had succeeded.", _keys(early, "run_id"))
    open_states = sorted(set(RunState) - TERMINAL)
    early = starts.filter(later | Q(run__upstream_edges__upstream__state__in=open_states))
    early = early.exclude(run__trigger_rule__in=("all_success", *_EARLY_RULES))
    yield from _found("I10", "A run started before its upstream runs were over.", _keys(early, "run_id"))
    waits = RunPeriod.objects.filter(settled=False, run__state__in=sorted(LIVE))
    yield from _found("I10", "A run was released while it waits for a period.", _keys(waits, "run_id"))


CHECKS: dict[str, Check] = {
    "I1": _once_per_instant,
    "I2": unanswered,
    "I3": _attempts,
    "I4": _terminal_stays,
    "I5": _outlived,
    "I6": over_limits,
    "I7": _events,
    "I8": _overlooked,
    "I9": _no_start_after_cancel,
    "I10": _upstream_first,
    "I11": not_ahead,
    "I12": broken_but_armed,
}


def _found(invariant: str, detail: str, ids: Sequence[Any]) -> Iterator[Violation]:
    if ids:
        yield Violation(invariant, detail, tuple(sorted(set(ids[:MOST_IDS]))), more=len(ids) > MOST_IDS)


def _keys(rows: QuerySet[Any], column: str) -> list[Any]:
    return list(rows.order_by().values_list(column, flat=True).distinct()[: MOST_IDS + 1])


def _ids(sql: str, params: list[Any]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} LIMIT {MOST_IDS + 1}", params)
        return [row[0] for row in cursor.fetchall()]
