"""The first half of step 2: runs that ended are told to their downstream runs, by the trigger rules.

A worker that finishes a run starts nothing. What follows is found here, from the rows, so that a crash between the two
can neither lose a downstream run nor undo a finish.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Any

import structlog
from django.db import transaction

from tasks_app import transitions
from tasks_app.conditions import Condition, ConditionError, parse
from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Run, RunDependency
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
        verdicts = _judge(ended)
        ready = [run for run, (verdict, _rule) in verdicts.items() if verdict is Verdict.START]
        if ready:
            Run.objects.filter(pk__in=ready, upstream_ready=False).update(upstream_ready=True)
        settled = {
            run: (_SETTLED[verdict][0], Reason.UPSTREAM, _SETTLED[verdict][1] % rule)
            for run, (verdict, rule) in verdicts.items()
            if verdict in _SETTLED
        }
        if settled:
            transitions.settle(settled, now=now, actor=actor)
        Run.objects.filter(pk__in=ended).update(tell_downstream=False)
        return len(ended)


def _judge(ended: list[int]) -> dict[int, tuple[Verdict, str]]:
    """{downstream run: (verdict, rule)} for the waiting runs below the ended ones."""
    below = RunDependency.objects.filter(
        upstream__in=ended, downstream__state=RunState.WAITING, downstream__upstream_ready=False
    )
    rules = dict(below.values_list("downstream_id", "downstream__trigger_rule"))
    states = _states_above(list(rules))
    return {run: (decide(TriggerRule(rule), states[run]), rule) for run, rule in rules.items()}


def _states_above(runs: list[int]) -> dict[int, list[RunState]]:
    """For each run the states of its upstream runs, as its trigger rule counts them: an upstream run that is over and
    for which the condition of the edge does not hold counts as skipped. Two queries, one where no edge has a condition.
    """
    if not runs:
        return {}
    columns = ("downstream_id", "upstream_id", "upstream__state", "condition")
    edges = list(RunDependency.objects.filter(downstream__in=runs).values_list(*columns))
    values = _values_of({up for _down, up, state, condition in edges if condition and state in TERMINAL})
    states: dict[int, list[RunState]] = defaultdict(list)
    for downstream, upstream, state, condition in edges:
        holds = upstream not in values or not condition or _holds(condition, values[upstream])
        states[downstream].append(RunState(state) if holds else RunState.SKIPPED)
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
