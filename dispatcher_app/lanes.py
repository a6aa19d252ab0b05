"""Lanes: the ready runs of one task, concurrency key, priority and backfill, in the order in which they fall due.

They are found by jumping through one index from lane to lane, and from a task whose gates are closed to the next task:
what waits behind a closed gate costs one step for each task, what falls due later one step for each lane, however many
runs there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import connection

from tasks_app import rowset
from tasks_app.models import Run
from tasks_app.models.task import Overlap
from tasks_app.pauses import MAY_START
from tasks_app.routing import Routing

# Lanes looked at in one go: open ones with something due, and all that are passed on the way to them.
MOST_LANES = 5000
MOST_STEPS = 20_000
# Policies that decide on new runs although no slot is free.
DECIDING = (Overlap.SKIP, Overlap.QUEUE_ONE, Overlap.CANCEL_RUNNING, Overlap.TERMINATE_RUNNING)

_READY = "run.state = 'waiting' AND run.upstream_ready AND NOT run.held"
_PLACE = "run.task_id, run.concurrency_key, run.priority, coalesce(run.backfill_id, 0)"
_ORDER = f"ORDER BY {_PLACE}, run.due_at, run.id LIMIT 1"
_LIVE = "live.state IN ('queued', 'running')"
# A first look without locks at the gates of a whole task. It may let pass what is closed, never the other way round.
# Limits that are in use by no task cost nothing: each list is made when the first task asks for it. Every key is >= '':
# that leads SQLite to the index of live runs.
_OPEN = f"""(SELECT {MAY_START.replace("%s", "%(now)s")} AND (task.overlap IN ({", ".join(f"'{p}'" for p in DECIDING)})
    OR ((task.overlap = 'allow' AND task.max_concurrent IS NULL
        OR (SELECT count(*) FROM tasks_app_run AS live WHERE live.task_id = task.id
            AND live.concurrency_key >= '' AND {_LIVE}) < coalesce(task.max_concurrent, 1))
    AND task.pool_id NOT IN (SELECT pool.id FROM tasks_app_pool AS pool WHERE pool.slots <= (
        SELECT coalesce(sum(live.weight), 0) FROM tasks_app_run AS live WHERE live.pool_id = pool.id AND {_LIVE}))
    AND task.id NOT IN (SELECT used.task_id FROM tasks_app_taskresource AS used
        JOIN tasks_app_resource AS resource ON resource.id = used.resource_id
        WHERE resource.breaker_state = 'open' AND resource.breaker_open_until > %(now)s)))
    FROM tasks_app_task AS task WHERE task.id = {{task_id}})"""


@dataclass(frozen=True, slots=True)
class LaneTask:
    """What the limits of a task are, and which kinds of limits are to be asked for its runs."""

    id: int
    pool_id: int
    pool: str
    pool_is_limited: bool
    overlap: str
    max_concurrent: int | None
    max_per_key: int
    rate_limit: int | None
    rate_window: int | None
    uses_resources: bool
    # Whether a dispatcher chooses the worker; else the first that is free takes the run.
    is_routed: bool = False

    @property
    def limit(self) -> int | None:
        """How many of its runs may be live at once, or None."""
        return self.max_concurrent if self.overlap == Overlap.ALLOW else self.max_concurrent or 1

    @property
    def decides(self) -> bool:
        """Whether its overlap policy has something to say of runs that find no slot."""
        return self.overlap in DECIDING


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of an open task with at least one run that is due. `backfill` is 0 for runs of none."""

    task: LaneTask
    key: str
    priority: int
    backfill: int
    last_started: datetime | None = None

    @property
    def place(self) -> tuple[int, str]:
        return self.task.id, self.key


class Candidate(NamedTuple):
    """A ready run that is due. `pool_id` is the pool that it starts in, that of its task; `planned_pool_id` the one
    that it was planned for."""

    id: int
    attempt: int
    task_id: int
    version_id: int
    priority: int
    since: datetime
    key: str
    weight: int
    batch: int | None
    planned_pool_id: int
    pool_id: int

    @property
    def group(self) -> int:
        return self.task_id

    @property
    def pool(self) -> int:
        return self.pool_id


@dataclass(slots=True)
class Cursor:
    """Where the next look begins when there are more lanes than one look takes; None = at the first."""

    after: tuple[int, str, int, int] | None = None


def lane_of(run: Run) -> Lane:
    """The lane that a run stands in, or would."""
    task = run.task
    of_task = LaneTask(
        task.pk,
        task.pool_id,
        task.pool.name,
        task.pool.slots is not None,
        task.overlap,
        task.max_concurrent,
        task.max_concurrent_per_key,
        task.rate_limit,
        task.rate_window_seconds,
        task.task_resources.exists(),
        task.routing != Routing.ANY or bool(task.required_labels),
    )
    return Lane(of_task, run.concurrency_key, run.priority, run.backfill_id or 0)


def due_lanes(now: datetime, cursor: Cursor | None = None) -> list[Lane]:
    """Up to MOST_LANES lanes of open tasks in which something is due, after the cursor; moves the cursor on."""
    cursor = cursor or Cursor()
    after = cursor.after or (0, "", -1, -1)
    params: dict[str, Any] = dict(zip(("task", "key", "priority", "backfill"), after, strict=True))
    params["now"] = rowset.moment(now)
    with connection.cursor() as executing:
        executing.execute(_POSTGRESQL if rowset.is_postgresql() else _SQLITE, params)
        rows = executing.fetchall()
    last = max(rows, key=lambda row: row[4], default=None)
    there_is_more = last is not None and (len(rows) >= MOST_LANES or last[4] >= MOST_STEPS)
    started_inside, cursor.after = cursor.after is not None, (last[:4] if last and there_is_more else None)
    tasks: dict[int, LaneTask] = {}
    lanes = [_lane(row, tasks) for row in rows if row[5]]
    if started_inside and not there_is_more and len(lanes) < MOST_LANES:
        known = {(lane.task.id, lane.key, lane.priority, lane.backfill) for lane in lanes}
        first = due_lanes(now, cursor)
        lanes += [lane for lane in first if (lane.task.id, lane.key, lane.priority, lane.backfill) not in known]
    return lanes


def candidates(wanted: Sequence[tuple[Lane, int]], now: datetime, *, lock: bool) -> list[list[Candidate]]:
    """For each (lane, number) that many due runs of the lane, the longest due first.

    With `lock` they are locked, and runs that another dispatcher holds are passed over.
    """
    found: list[list[Candidate]] = [[] for _ in wanted]
    if not wanted:
        return found
    columns = {"place": "int", "task_id": "bigint", "key": "text", "priority": "int", "backfill": "bigint"}
    rows = rowset.encode(
        dict(zip(columns, (place, lane.task.id, lane.key, lane.priority, lane.backfill), strict=True)) | {"most": most}
        for place, (lane, most) in enumerate(wanted)
    )
    columns["most"] = "int"
    # As a number of seconds: to read that costs a tenth of reading a time.
    due = "extract(epoch FROM run.due_at)::float8" if rowset.is_postgresql() else "run.due_at"
    picked = f"""run.id, run.attempt, run.task_id, run.version_id, run.priority, {due}, run.concurrency_key, run.weight,
        run.backfill_id, run.pool_id"""
    # A run past its start deadline expires instead.
    of_lane = f"""{_READY} AND (run.expires_at IS NULL OR run.expires_at > %s OR run.attempt > 1)
        AND run.task_id = k.task_id AND run.concurrency_key = k.key AND run.priority = k.priority
        AND coalesce(run.backfill_id, 0) = k.backfill AND run.due_at <= %s ORDER BY run.due_at, run.id"""
    at = rowset.moment(now)
    if rowset.is_postgresql():
        locking = "FOR UPDATE OF run SKIP LOCKED" if lock else ""
        sql = f"""SELECT k.place, run.* FROM {rowset.table("k", columns)} CROSS JOIN LATERAL (
            SELECT {picked} FROM tasks_app_run AS run WHERE {of_lane} LIMIT k.most {locking}) AS run"""
        params = [rows, at, at]
    else:
        # Its LIMIT may not depend on the lane: what is too much is left out below.
        sql = f"""SELECT k.place, {picked} FROM {rowset.table("k", columns)} CROSS JOIN tasks_app_run AS run
            WHERE run.id IN (SELECT run.id FROM tasks_app_run AS run WHERE {of_lane} LIMIT %s)
            ORDER BY k.place, run.due_at, run.id"""
        params = [rows, at, at, max(most for _, most in wanted)]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        for place, id, attempt, task_id, version_id, priority, due_at, key, weight, batch, pool in cursor.fetchall():
            since = datetime.fromtimestamp(due_at, UTC) if isinstance(due_at, float) else rowset.instant(due_at)
            here = (key, weight, batch, pool, wanted[place][0].task.pool_id)
            found[place].append(Candidate(id, attempt, task_id, version_id, priority, since, *here))
    return [one[:most] for one, (_, most) in zip(found, wanted, strict=True)]


def _lane(row: tuple[Any, ...], tasks: dict[int, LaneTask]) -> Lane:
    task_id, key, priority, backfill, _step, _is_lane, last_started, *of_task = row
    if (task := tasks.get(task_id)) is None:
        pool_id, pool, limited, policy, most, per_key, rate_limit, rate_window, resources, routed = of_task
        limits = (bool(limited), policy, most, per_key, rate_limit, rate_window, bool(resources))
        task = LaneTask(task_id, pool_id, pool, *limits, is_routed=bool(routed))
        tasks[task_id] = task
    return Lane(task, key, priority, backfill, rowset.instant(last_started) if last_started is not None else None)


# What both dialects give for a lane: its place, its step, whether it counts (the last step is told in any case), whose
# turn it is, and its task.
_ANSWER = """lane.task_id, lane.key, lane.priority, lane.backfill, lane.step, lane.is_due,
    CASE WHEN lane.key <> '' THEN (SELECT max(run.queued_at) FROM tasks_app_run AS run WHERE run.task_id = lane.task_id
        AND run.concurrency_key = lane.key AND NOT (run.concurrency_key = '') AND run.queued_at IS NOT NULL) END,
    task.pool_id, pool.name, pool.slots IS NOT NULL, task.overlap, task.max_concurrent, task.max_concurrent_per_key,
    task.rate_limit, task.rate_window_seconds,
    EXISTS (SELECT 1 FROM tasks_app_taskresource AS used WHERE used.task_id = task.id),
    task.routing <> 'any' OR task.required_labels <> ''"""
_TASK = (
    """JOIN tasks_app_task AS task ON task.id = lane.task_id JOIN tasks_app_pool AS pool ON pool.id = task.pool_id"""
)
_KEY_IS_OPEN = f"""(lane.key = '' OR (SELECT count(*) FROM tasks_app_run AS live WHERE live.task_id = lane.task_id
    AND live.concurrency_key = lane.key AND {_LIVE})
    < (SELECT task.max_concurrent_per_key FROM tasks_app_task AS task WHERE task.id = lane.task_id))"""
_LANE = "run.task_id, run.concurrency_key AS key, run.priority, coalesce(run.backfill_id, 0) AS backfill, run.due_at"

# One comparison of rows is one descent of the index; from a closed task it goes on behind the last lane of the task.
_POSTGRESQL = f"""WITH RECURSIVE lane(task_id, key, priority, backfill, due_at, open, step) AS (
    SELECT first.*, {_OPEN.format(task_id="first.task_id")}, 1 FROM (SELECT {_LANE} FROM tasks_app_run AS run
        WHERE {_READY} AND ({_PLACE}) > (%(task)s, %(key)s, %(priority)s, %(backfill)s) {_ORDER}) AS first
    UNION ALL
    SELECT next.*, CASE WHEN next.task_id = lane.task_id THEN lane.open ELSE {_OPEN.format(task_id="next.task_id")} END,
        lane.step + 1
    FROM lane CROSS JOIN LATERAL (SELECT {_LANE} FROM tasks_app_run AS run WHERE {_READY} AND ({_PLACE}) > (
        CASE WHEN lane.open THEN lane.task_id ELSE lane.task_id + 1 END, CASE WHEN lane.open THEN lane.key ELSE '' END,
        CASE WHEN lane.open THEN lane.priority ELSE -1 END, CASE WHEN lane.open THEN lane.backfill ELSE -1 END)
        {_ORDER}) AS next
    WHERE lane.step < {MOST_STEPS})
    SELECT {_ANSWER} FROM (
        SELECT * FROM (SELECT *, open AND due_at <= %(now)s AND {_KEY_IS_OPEN} AS is_due FROM lane) AS lane
        WHERE is_due OR step = {MOST_STEPS} LIMIT {MOST_LANES}) AS lane {_TASK}"""

_AT_SAME = "run.task_id = at.task_id"
_SQLITE = f"""WITH RECURSIVE step(id, step) AS (
    SELECT (SELECT run.id FROM tasks_app_run AS run
        WHERE {_READY} AND ({_PLACE}) > (%(task)s, %(key)s, %(priority)s, %(backfill)s) {_ORDER}), 1
    UNION ALL
    SELECT coalesce(
        CASE WHEN {_OPEN.format(task_id="at.task_id")} THEN coalesce(
            (SELECT run.id FROM tasks_app_run AS run WHERE {_READY} AND {_AT_SAME}
                AND run.concurrency_key = at.concurrency_key AND run.priority = at.priority
                AND coalesce(run.backfill_id, 0) > coalesce(at.backfill_id, 0) {_ORDER}),
            (SELECT run.id FROM tasks_app_run AS run WHERE {_READY} AND {_AT_SAME}
                AND run.concurrency_key = at.concurrency_key AND run.priority > at.priority {_ORDER}),
            (SELECT run.id FROM tasks_app_run AS run WHERE {_READY} AND {_AT_SAME}
                AND run.concurrency_key > at.concurrency_key {_ORDER})) END,
        (SELECT run.id FROM tasks_app_run AS run WHERE {_READY} AND run.task_id > at.task_id {_ORDER})), step.step + 1
    FROM step JOIN tasks_app_run AS at ON at.id = step.id WHERE step.step < {MOST_STEPS}),
    lane AS (SELECT {_LANE}, step.step AS step, {_OPEN.format(task_id="run.task_id")} AS open
        FROM step JOIN tasks_app_run AS run ON run.id = step.id)
    SELECT {_ANSWER} FROM (
        SELECT * FROM (SELECT *, open AND due_at <= %(now)s AND {_KEY_IS_OPEN} AS is_due FROM lane) AS lane
        WHERE is_due OR step = {MOST_STEPS} LIMIT {MOST_LANES}) AS lane {_TASK}"""
