"""THE ONLY writer of Run.state.

Each verb is one conditional update of a set of runs: it names the state (and, once a worker is involved, the attempt)
that it expects, believes what came back, and writes one RunEvent for each run that moved, in the same statement or
transaction. A run that is no longer in the expected state is simply not in the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from tasks_app import rowset
from tasks_app.moves import Claimed, Created, Outcome
from tasks_app.states import ALLOWED, Reason, RunState
from tasks_app.texts import clipped, storable, storable_json

# The key finds the row, nothing else may. A plain test on state or worker would be applied to the whole table first:
# planned on stale statistics it promises one row, and a claim by key becomes a scan of the backlog for every key, or a
# walk along a partial index. Tests that depend on the key row can only be applied after the join.
_STATE_IS = "run.state = CASE WHEN k.id IS NOT NULL THEN %s END"
_WORKER_IS = "run.worker_id = CASE WHEN k.id IS NOT NULL THEN %s END"
# Cancel wins over another attempt: a run that was asked to end while it failed must not start again.
_RETRIED = "k.step = 1 AND run.cancel_requested_at IS NULL"
_CANCELLED = "k.step = 1 AND run.cancel_requested_at IS NOT NULL"
_OUTCOME = f"""state = CASE WHEN {_CANCELLED} THEN 'cancelled' ELSE k.state END,
    reason = CASE WHEN {_CANCELLED} THEN 'cancel_requested' ELSE k.reason END, reason_detail = k.detail,
    finished_at = CASE WHEN {_RETRIED} THEN NULL ELSE k.finished_at END,
    due_at = CASE WHEN {_RETRIED} THEN coalesce(k.retry_at, run.due_at) ELSE run.due_at END,
    attempt = CASE WHEN {_RETRIED} THEN run.attempt + 1 ELSE run.attempt END,
    queued_at = CASE WHEN {_RETRIED} THEN NULL ELSE run.queued_at END,
    started_at = CASE WHEN {_RETRIED} THEN NULL ELSE run.started_at END,
    worker_id = CASE WHEN {_RETRIED} THEN NULL ELSE run.worker_id END"""


def create(
    rows: Sequence[Mapping[str, Any]], *, now: datetime, actor: str, columns: Mapping[str, str] | None = None
) -> list[Created]:
    """(nothing) -> waiting: insert planned runs, one mapping of CREATE_COLUMNS each, or of those and PART_COLUMNS.
    Returns what was inserted.

    A row that meets a unique key (same schedule and instant, same idempotency key, same root and task) is left out:
    somebody planned it before.
    """
    columns = columns or CREATE_COLUMNS
    names = ", ".join(columns)
    at = rowset.moment(now)
    # WHERE true: without it SQLite reads ON CONFLICT as part of a join.
    insert = f"""INSERT INTO tasks_app_run ({names}, created_at, state, reason, reason_detail, attempt, worker_deaths,
        told_attempt, held) SELECT {names}, {_at()}, 'waiting', '', '', 1, 0, 0, {_false()}
        FROM {rowset.table("k", columns)}
        WHERE true ON CONFLICT DO NOTHING RETURNING id, task_id, schedule_id, nominal_at, idempotency_key, root_id"""
    actor = actor[:200]
    log = f"INSERT INTO tasks_app_runevent ({_EVENT_COLUMNS}) SELECT id, {_at()}, '', 'waiting', 1, '', '', %s FROM "
    if rowset.is_postgresql():
        sql = f"WITH made AS ({insert}), logged AS ({log} made) SELECT * FROM made ORDER BY id"
        with connection.cursor() as cursor:
            cursor.execute(sql, [at, rowset.encode(rows), at, actor])
            found = cursor.fetchall()
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(insert, [at, rowset.encode(rows)])
            found = sorted(cursor.fetchall())
            keys = rowset.encode({"id": row[0]} for row in found)
            cursor.execute(log + rowset.table("made", {"id": ""}), [at, actor, keys])
    return [Created(row[0], row[1], row[2], _time(row[3]), row[4], row[5]) for row in found]


CREATE_COLUMNS = {
    "task_id": "bigint",
    "version_id": "bigint",
    "schedule_id": "bigint",
    "pool_id": "bigint",
    "root_id": "bigint",
    "rerun_of_id": "bigint",
    "run_type": "text",
    "priority": "int",
    "trigger_rule": "text",
    "weight": "int",
    "concurrency_key": "text",
    "backfill_id": "bigint",
    "upstream_ready": "boolean",
    "tell_downstream": "boolean",
    "tell_limits": "boolean",
    "nominal_at": "timestamptz",
    "due_at": "timestamptz",
    "expires_at": "timestamptz",
    "params": "jsonb",
    "idempotency_key": "text",
    "memory_limit_mb": "int",
    "alone": "boolean",
}
PART_COLUMNS = CREATE_COLUMNS | {
    "shard_of_id": "bigint",
    "shard_index": "int",
    "shard_total": "int",
    "target_id": "uuid",
}


def enqueue(
    ids: Sequence[int], *, now: datetime, sweep_at: datetime, actor: str, targets: Mapping[int, UUID] | None = None
) -> list[int]:
    """waiting -> queued; `targets` names the worker of those that go to one alone. Returns the ids that moved, in no
    order."""
    columns, target = ({"id": "bigint", "target": "uuid"}, "k.target") if targets else ({"id": "bigint"}, "NULL")
    sql = f"""UPDATE tasks_app_run AS run SET state = 'queued', queued_at = %s, sweep_at = %s, reason = '',
        reason_detail = '', target_id = {target} FROM {rowset.table("k", columns)}
        WHERE run.id = k.id AND {_STATE_IS}"""
    keys = rowset.encode({"id": id, "target": targets.get(id)} if targets else {"id": id} for id in sorted(ids))
    params = [rowset.moment(now), rowset.moment(sweep_at), keys, RunState.WAITING]
    return [row[0] for row in _move(RunState.WAITING, sql, params, now, actor)]


def claim(pairs: Sequence[tuple[int, int]], *, worker_id: UUID, now: datetime, actor: str) -> list[Claimed]:
    """queued -> running, for (run id, attempt) pairs. Returns what moved; a pair left out was a stale message, or
    its run is for another worker alone by now."""
    sql = f"""UPDATE tasks_app_run AS run SET state = 'running', started_at = %s, worker_id = %s, sweep_at = NULL,
        exit_code = NULL, output = NULL
        FROM {rowset.table("k", {"id": "bigint", "attempt": "int"})}
        WHERE run.id = k.id AND run.attempt = k.attempt AND {_STATE_IS}
            AND (run.target_id IS NULL OR run.target_id = %s)"""
    keys = rowset.encode({"id": id, "attempt": attempt} for id, attempt in sorted(pairs))
    params = [rowset.moment(now), _uuid(worker_id), keys, RunState.QUEUED, _uuid(worker_id)]
    extra = ("task_id", "version_id", "nominal_at", "params", "shard_index", "shard_total", "memory_limit_mb", "alone")
    moved = _move(RunState.QUEUED, sql, params, now, actor, extra)
    return [Claimed(r[0], r[2], r[5], r[6], _time(r[7]), _json(r[8]), r[9], r[10], r[11], bool(r[12])) for r in moved]


def finish(outcomes: Sequence[Outcome], *, worker_id: UUID, now: datetime, actor: str) -> set[int]:
    """running -> the outcome's state, where run, attempt and worker still match. Returns the ids that moved.

    An id that is missing was lost to another attempt, or cancelled away, or deleted: its caller must touch nothing.
    """
    sql = f"""UPDATE tasks_app_run AS run SET {_OUTCOME}, exit_code = k.exit_code, output = k.output
        FROM {rowset.table("k", _OUTCOME_COLUMNS)}
        WHERE run.id = k.id AND run.attempt = k.attempt AND {_WORKER_IS} AND {_STATE_IS}"""
    rows = rowset.encode(_outcome_row(o, now) for o in sorted(outcomes, key=lambda o: o.id))
    params = [rows, _uuid(worker_id), RunState.RUNNING]
    return {row[0] for row in _move(RunState.RUNNING, sql, params, now, actor)}


def recover(outcomes: Sequence[Outcome], *, now: datetime, actor: str) -> set[int]:
    """running -> waiting | lost | quarantined for runs whose worker is gone. Returns the ids that moved."""
    sql = f"""UPDATE tasks_app_run AS run SET {_OUTCOME}, worker_deaths = run.worker_deaths + k.death
        FROM {rowset.table("k", _OUTCOME_COLUMNS)}
        WHERE run.id = k.id AND run.attempt = k.attempt AND {_STATE_IS}"""
    rows = rowset.encode(_outcome_row(o, now) for o in sorted(outcomes, key=lambda o: o.id))
    return {row[0] for row in _move(RunState.RUNNING, sql, [rows, RunState.RUNNING], now, actor)}


def settle(verdicts: Mapping[int, tuple[RunState, str, str]], *, now: datetime, actor: str) -> set[int]:
    """waiting -> skipped | upstream_failed | expired, by {run id: (state, reason, detail)}. Returns what moved."""
    columns = {"id": "bigint", "state": "text", "reason": "text", "detail": "text"}
    sql = f"""UPDATE tasks_app_run AS run SET state = k.state, reason = k.reason, reason_detail = k.detail,
        finished_at = %s FROM {rowset.table("k", columns)} WHERE run.id = k.id AND {_STATE_IS}"""
    rows = []
    for id, (state, reason, detail) in sorted(verdicts.items()):
        _assert_allowed(RunState.WAITING, state)
        rows.append({"id": id, "state": state, "reason": reason, "detail": clipped(storable(detail), 1000)})
    params = [rowset.moment(now), rowset.encode(rows), RunState.WAITING]
    return {row[0] for row in _move(RunState.WAITING, sql, params, now, actor)}


def cancel_unstarted(
    ids: Iterable[int], *, now: datetime, actor: str, detail: str = "", reason: Reason = Reason.CANCEL_REQUESTED
) -> set[int]:
    """waiting | queued -> cancelled. Returns the ids that moved; nothing starts them once this has committed."""
    moved: set[int] = set()
    wanted = sorted(ids)
    for from_state in (RunState.WAITING, RunState.QUEUED):
        sql = f"""UPDATE tasks_app_run AS run SET state = 'cancelled', reason = %s, reason_detail = %s,
            finished_at = %s, cancel_requested_at = coalesce(run.cancel_requested_at, %s)
            FROM {rowset.table("k", {"id": "bigint"})} WHERE run.id = k.id AND {_STATE_IS}"""
        keys = rowset.encode({"id": id} for id in wanted)
        at = rowset.moment(now)
        params = [reason, clipped(storable(detail), 1000), at, at, keys, from_state]
        moved |= {row[0] for row in _move(from_state, sql, params, now, actor)}
    return moved


_OUTCOME_COLUMNS = {
    "id": "bigint",
    "attempt": "int",
    "state": "text",
    "reason": "text",
    "detail": "text",
    "exit_code": "int",
    "output": "jsonb",
    "finished_at": "timestamptz",
    "retry_at": "timestamptz",
    "step": "int",
    "death": "int",
}


def _outcome_row(outcome: Outcome, now: datetime) -> dict[str, Any]:
    _assert_allowed(RunState.RUNNING, outcome.state)
    return {
        "id": outcome.id,
        "attempt": outcome.attempt,
        "state": outcome.state,
        "reason": outcome.reason,
        "detail": clipped(storable(outcome.detail), 1000),
        "exit_code": outcome.exit_code,
        "output": storable_json(outcome.output),
        "finished_at": now,
        "retry_at": outcome.retry_at,
        "step": int(outcome.state is RunState.WAITING),
        "death": int(outcome.worker_died),
    }


def _assert_allowed(from_state: RunState, to_state: RunState) -> None:
    if to_state not in ALLOWED[from_state]:
        raise ValueError(f"A run cannot go from {from_state} to {to_state}.")


_EVENT_COLUMNS = "run_id, at, from_state, to_state, attempt, reason, detail, actor"
# A retry has already counted the attempt up; its event belongs to the attempt that ended.
_EVENT_ATTEMPT = "CASE WHEN state = 'waiting' THEN attempt - 1 ELSE attempt END"


def _move(
    from_state: RunState,
    update: str,
    params: list[Any],
    now: datetime,
    actor: str,
    extra: Sequence[str] = (),
) -> list[tuple[Any, ...]]:
    """Run the update and log what moved; rows of (id, state, attempt, reason, reason_detail, *extra)."""
    returning = ", ".join(f"run.{name}" for name in ("id", "state", "attempt", "reason", "reason_detail", *extra))
    at, actor = rowset.moment(now), actor[:200]
    if rowset.is_postgresql():
        sql = f"""WITH moved AS ({update} RETURNING {returning}), logged AS (
            INSERT INTO tasks_app_runevent ({_EVENT_COLUMNS})
            SELECT id, {_at()}, %s, state, {_EVENT_ATTEMPT}, reason, reason_detail, %s FROM moved)
            SELECT * FROM moved"""
        with connection.cursor() as cursor:
            cursor.execute(sql, [*params, at, from_state, actor])
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"{update} RETURNING {returning.replace('run.', '')}", params)
        moved: list[tuple[Any, ...]] = cursor.fetchall()
        if moved:
            columns = {"id": "", "state": "", "attempt": "", "reason": "", "reason_detail": ""}
            rows = rowset.encode(dict(zip(columns, row[:5], strict=True)) for row in moved)
            cursor.execute(
                f"""INSERT INTO tasks_app_runevent ({_EVENT_COLUMNS})
                SELECT id, {_at()}, %s, state, {_EVENT_ATTEMPT}, reason, reason_detail, %s
                FROM {rowset.table("moved", columns)}""",
                [at, from_state, actor, rows],
            )
        return moved


def _at() -> str:
    return "%s::timestamptz" if rowset.is_postgresql() else "%s"


def _false() -> str:
    return "false" if rowset.is_postgresql() else "0"


def _uuid(value: UUID) -> Any:
    return value if rowset.is_postgresql() else value.hex


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    # SQLite keeps UTC without saying so.
    return found if found.tzinfo else found.replace(tzinfo=UTC)
