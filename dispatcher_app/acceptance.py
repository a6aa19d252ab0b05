"""The first half of step 2: runs that ended are told to their downstream runs, by the trigger rules.

A worker that finishes a run starts nothing. What follows is found here, from the rows, so that a crash between the two
can neither lose a downstream run nor undo a finish.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from django.db import transaction

from tasks_app import transitions
from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Run, RunDependency
from tasks_app.states import Reason, RunState

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
    """{downstream run: (verdict, rule)} for the waiting runs below the ended ones; two queries."""
    below = RunDependency.objects.filter(
        upstream__in=ended, downstream__state=RunState.WAITING, downstream__upstream_ready=False
    )
    rules = dict(below.values_list("downstream_id", "downstream__trigger_rule"))
    if not rules:
        return {}
    states: dict[int, list[RunState]] = defaultdict(list)
    edges = RunDependency.objects.filter(downstream__in=list(rules)).values_list("downstream_id", "upstream__state")
    for downstream, state in edges:
        states[downstream].append(RunState(state))
    return {run: (decide(TriggerRule(rule), states[run]), rule) for run, rule in rules.items()}
