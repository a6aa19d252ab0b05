"""The first half of step 2: runs that ended are told to their downstream runs, by the trigger rules.

A worker that finishes a run starts nothing. What follows is found here, from the rows, so that a crash between the two
can neither lose a downstream run nor undo a finish.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from tasks_app import periods, rowset, transitions
from tasks_app.conditions import Condition, ConditionError, parse
from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Run, RunDependency, RunPeriod
from tasks_app.periods import PeriodPolicy
from tasks_app.states import TERMINAL, Reason, RunState

log = structlog.get_logger(__name__)
BATCH = 2000
_SETTLED = {
    Verdict.SKIP: (RunState.SKIPPED, "The trigger rule %s cannot hold any more."),
    Verdict.UPSTREAM_FAILED: (RunState.UPSTREAM_FAILED, "An upstream run did not succeed; the trigger rule is %s."),
}


def accept_ended(now: datetime, *, actor: str, limit: int = BATCH) -> int:
    """Judge the downstream runs of up to `limit` ended runs. Returns how many ended runs were told.

    The rule is judged on the states themselves, not on a counter: two dispatchers that each tell one upstream of the
    same run both see all that has committed, and the one that comes later sees everything.
    """
    with transaction.atomic():
        ended = list(
            Run.objects.filter(tell_downstream=True, finished_at__isnull=False)
            .order_by("finished_at")
            .select_for_update(skip_locked=True, of=("self",), no_key=True)
            .values_list("pk", flat=True)[:limit]
        )
        if not ended:
            return 0
        not_taken: dict[int, str] = {}
        verdicts = _judge(ended, not_taken)
        _make_ready(run for run, (verdict, _rule) in verdicts.items() if verdict is Verdict.START)
        settled = {}
        for run, (verdict, rule) in verdicts.items():
            if verdict in _SETTLED:
                state, sentence = _SETTLED[verdict]
                detail = sentence % rule
                if run in not_taken:
                    detail += f" This condition did not hold: {not_taken[run]}"
                settled[run] = (state, str(Reason.UPSTREAM), detail)
        if settled:
            transitions.settle(settled, now=now, actor=actor)
        Run.objects.filter(pk__in=ended).update(tell_downstream=False)
        return len(ended)


def judge_run(run: Run) -> Verdict:
    """What the trigger rule of a waiting run says now, its periods aside."""
    return _by_rule({run.pk: run.trigger_rule})[run.pk]


def open_periods(run: Run) -> list[RunPeriod]:
    """The periods that the run still waits for."""
    return list(run.period_edges.filter(settled=False).select_related("upstream_task").order_by("start", "pk"))


def _judge(ended: list[int], not_taken: dict[int, str]) -> dict[int, tuple[Verdict, str]]:
    """{downstream run: (verdict, rule)} for the waiting runs below the ended ones.

    A run that still waits for a period does not start yet, whatever its rule says. Writes into `not_taken` for each run
    a condition of its edges that did not hold.
    """
    below = RunDependency.objects.filter(
        upstream__in=ended, downstream__state=RunState.WAITING, downstream__upstream_ready=False
    )
    rules = dict(below.values_list("downstream_id", "downstream__trigger_rule"))
    verdicts = _by_rule(rules, held_back=_lock_open(rules), not_taken=not_taken)
    return {run: (verdict, rules[run]) for run, verdict in verdicts.items()}


def _by_rule(
    rules: Mapping[int, str], *, held_back: Collection[int] = (), not_taken: dict[int, str] | None = None
) -> dict[int, Verdict]:
    """The verdict for each run by its trigger rule (empty: it has none); WAIT instead of START for those held back."""
    states = _states_above(list(rules), {} if not_taken is None else not_taken)
    verdicts = {run: decide(TriggerRule(rule), states[run]) if rule else Verdict.START for run, rule in rules.items()}
    for run in held_back:
        if verdicts[run] is Verdict.START:
            verdicts[run] = Verdict.WAIT
    return verdicts


def _make_ready(runs: Iterable[int]) -> None:
    if ids := list(runs):
        Run.objects.filter(pk__in=ids, upstream_ready=False).update(upstream_ready=True)


def _states_above(runs: list[int], not_taken: dict[int, str]) -> dict[int, list[RunState]]:
    """For each run the states of its upstream runs, as its trigger rule counts them: an upstream run that is over and
    for which the condition of the edge does not hold counts as skipped. Two queries, one where no edge has a condition.
    """
    states: dict[int, list[RunState]] = defaultdict(list)
    if not runs:
        return states
    columns = ("downstream_id", "upstream_id", "upstream__state", "condition")
    edges = list(RunDependency.objects.filter(downstream__in=runs).values_list(*columns))
    values = _values_of({up for _down, up, state, condition in edges if condition and state in TERMINAL})
    for downstream, upstream, state, condition in edges:
        holds = upstream not in values or not condition or _holds(condition, values[upstream])
        states[downstream].append(RunState(state) if holds else RunState.SKIPPED)
        if not holds:
            not_taken[downstream] = condition
    return states


def _values_of(runs: Collection[int]) -> dict[int, dict[str, Any]]:
    """What conditions can name of each run; its parameters are those of its version overlaid with its own."""
    if not runs:
        return {}
    columns = ("state", "reason", "exit_code", "attempt", "output", "params", "version__params")
    rows = {row.pop("pk"): row for row in Run.objects.filter(pk__in=runs).values("pk", *columns)}
    return {pk: row | {"params": {**row.pop("version__params"), **row["params"]}} for pk, row in rows.items()}


def _holds(condition: str, values: dict[str, Any]) -> bool:
    parsed = _parsed(condition)
    return parsed is not None and parsed.holds(values)


@lru_cache(maxsize=1000)
def _parsed(condition: str) -> Condition | None:
    try:
        return parse(condition)
    except ConditionError as error:
        # It was checked when it was saved. One bad row must not end the loop: its branch is not taken.
        log.error("condition of an edge cannot be read", condition=condition, error=str(error))
        return None


# --- dependencies by period -------------------------------------------------------------------------------------------

# What settles an open row: policy and state of the last run of the period ('' where there is none).
_SETTLING = [
    {"policy": policy, "state": state or ""}
    for policy in PeriodPolicy
    for state in (None, *RunState)
    if periods.decide(policy, state) is not Verdict.WAIT
]
_HAS_OPEN_PERIOD = Exists(RunPeriod.objects.filter(run=OuterRef("pk"), settled=False))


def accept_periods(now: datetime, *, actor: str, limit: int = BATCH) -> int:
    """Judge up to `limit` periods that runs wait for. Returns how many are settled.

    The run is ready when all its periods are settled and its trigger rule says start; it has failed as soon as one of
    them has. What only goes on waiting is not even fetched.
    """
    with transaction.atomic():
        _forget_ended()
        found = _settling(limit)
        if not found:
            return 0
        RunPeriod.objects.filter(pk__in=[row.id for row in found]).update(settled=True)
        failed = {row.run_id: row for row in found if row.verdict is Verdict.UPSTREAM_FAILED}
        if failed:
            transitions.settle(_sentences(failed), now=now, actor=actor)
        waiting = {row.run_id for row in found} - failed.keys()
        complete = Run.objects.filter(pk__in=waiting).exclude(_HAS_OPEN_PERIOD)
        by_rule = _by_rule(dict(complete.values_list("pk", "trigger_rule")))
        _make_ready(run for run, verdict in by_rule.items() if verdict is Verdict.START)
        return len(found)


def _lock_open(runs: Collection[int]) -> list[int]:
    """Those of the runs that wait for a period; locked first, and read again once they are ours.

    Two dispatchers may find the last upstream run ended and the last period settled at the same moment: the one that
    comes later must see what the other has done, or each would leave the start to the other.
    """
    if not runs:
        return []
    open_ones = Run.objects.filter(_HAS_OPEN_PERIOD, pk__in=list(runs)).order_by("pk")
    locked = list(open_ones.select_for_update(no_key=True, of=("self",)).values_list("pk", flat=True))
    if not locked:
        return []
    return list(Run.objects.filter(_HAS_OPEN_PERIOD, pk__in=locked).values_list("pk", flat=True))


class _Judged(NamedTuple):
    """An open row that can be settled; `state` is that of the last run in the period, empty where there is none."""

    id: int
    run_id: int
    task_id: int | None
    policy: str
    state: str

    @property
    def verdict(self) -> Verdict:
        if self.task_id is None:
            return Verdict.UPSTREAM_FAILED
        return periods.decide(PeriodPolicy(self.policy), RunState(self.state) if self.state else None)


def _settling(limit: int) -> list[_Judged]:
    """Rows that can be settled, locked with their waiting runs; those that another dispatcher holds are left to it.

    Many runs wait for the same window: each is looked up once, however many rows it has. Rows whose upstream task was
    deleted have lost it (0): nothing will ever succeed there.
    """
    # Both: what is not locked is judged as it was when the statement began, settled meanwhile or not.
    lock = " FOR UPDATE OF run, period SKIP LOCKED" if rowset.is_postgresql() else ""
    sql = f"""WITH windows AS MATERIALIZED (
            SELECT DISTINCT coalesce(upstream_task_id, 0) AS task_id, start, "end", policy
            FROM tasks_app_runperiod WHERE NOT settled),
        judged AS MATERIALIZED (
            SELECT windows.*, coalesce((
                SELECT CASE WHEN last.state = 'succeeded' THEN coalesce((
                        SELECT part.state FROM tasks_app_run AS part
                        WHERE part.shard_of_id = last.id AND part.state <> 'succeeded' ORDER BY part.id LIMIT 1),
                    last.state) ELSE last.state END
                FROM tasks_app_run AS last
                WHERE last.task_id = windows.task_id AND last.nominal_at >= windows.start
                AND last.nominal_at < windows."end" AND last.shard_of_id IS NULL
                ORDER BY last.nominal_at DESC, last.id DESC LIMIT 1), '') AS state
            FROM windows)
        SELECT period.id, period.run_id, period.upstream_task_id, judged.policy, judged.state
        FROM judged
        JOIN tasks_app_runperiod AS period ON coalesce(period.upstream_task_id, 0) = judged.task_id
            AND period.start = judged.start AND period."end" = judged."end" AND period.policy = judged.policy
        JOIN tasks_app_run AS run ON run.id = period.run_id
        WHERE NOT period.settled AND run.state = 'waiting' AND (judged.task_id = 0 OR EXISTS (
            SELECT 1 FROM {rowset.table("k", {"policy": "text", "state": "text"})}
            WHERE k.policy = judged.policy AND k.state = judged.state))
        ORDER BY period.id LIMIT {int(limit)}{lock}"""
    with connection.cursor() as cursor:
        cursor.execute(sql, [rowset.encode(_SETTLING)])
        return [_Judged(*row) for row in cursor.fetchall()]


def _forget_ended() -> None:
    """Nobody waits any more for the periods of a run that was cancelled, skipped or has failed by its rule."""
    over = Run.objects.filter(pk=OuterRef("run_id")).exclude(state=RunState.WAITING)
    RunPeriod.objects.filter(Exists(over), settled=False).update(settled=True)


def _sentences(failed: Mapping[int, _Judged]) -> dict[int, tuple[RunState, str, str]]:
    """Why each run has failed, naming the upstream task and the period."""
    of_failed = RunPeriod.objects.filter(pk__in=[judged.id for judged in failed.values()])
    rows = {row.pk: row for row in of_failed.select_related("upstream_task")}
    verdicts = {}
    for run, judged in failed.items():
        row = rows[judged.id]
        start, end = (at.astimezone(UTC).strftime("%Y-%m-%d %H:%M") for at in (row.start, row.end))
        period = f"the period from {start} to {end} UTC"
        if row.upstream_task is None:
            detail = f"The upstream task whose run in {period} it waited for was deleted."
        elif not judged.state:
            detail = f"There is no run of {row.upstream_task.name} in {period}."
        else:
            detail = f"The last run of {row.upstream_task.name} in {period} is {judged.state}."
        verdicts[run] = (RunState.UPSTREAM_FAILED, str(Reason.UPSTREAM), detail)
    return verdicts
