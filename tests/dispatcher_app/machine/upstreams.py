"""What runs wait for, other runs and periods, as a tick had to judge it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from tasks_app.dependencies import TriggerRule, Verdict, decide
from tasks_app.models import Run, RunDependency, RunPeriod
from tasks_app.states import TERMINAL, RunState
from tests.dispatcher_app.machine.snapshot import Runs, Seen

CONDITIONS: dict[str, Callable[[str, Any], bool]] = {
    "output.rows > 0": lambda _state, output: bool(output) and output["rows"] > 0,
    'state == "failed"': lambda state, _output: state == "failed",
}


class Upstreams:
    """Of the runs that waited when the tick from `before` to `after` began, or that it has planned."""

    def __init__(self, before: Runs, after: Runs) -> None:
        self._before, self._after = before, after
        waited = [id for id in after if id not in before or before[id].state == "waiting"]
        edges = RunDependency.objects.filter(downstream__in=waited)
        self._edges: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for below, above, condition in edges.values_list("downstream_id", "upstream_id", "condition"):
            self._edges[below].append((above, condition))
        named = {above for found in self._edges.values() for above, condition in found if condition}
        self._outputs = dict(Run.objects.filter(pk__in=named).values_list("pk", "output")) if named else {}
        self._periods: dict[int, list[RunPeriod]] = defaultdict(list)
        for row in RunPeriod.objects.filter(run__in=waited):
            self._periods[row.run_id].append(row)

    def may_start(self, run: Seen) -> bool:
        open_ones = [row for row in self._periods[run.id] if not row.settled]
        return not open_ones and (run.upstream_ready or self._verdict(run) is Verdict.START)

    def check(self, settled: set[int]) -> None:
        """What has its answer is not left waiting for it. `settled` are periods of ticks before; adds those of this
        one, and holds them against the runs in them."""
        for id, rows in self._periods.items():
            for row in rows:
                if row.pk not in settled:
                    self._check_period(self._after[id], row)
            settled.update(row.pk for row in rows if row.settled)
        for id, edges in self._edges.items():
            run = self._after[id]
            waits = run.state == "waiting" and not run.upstream_ready and all(row.settled for row in self._periods[id])
            verdict = self._verdict(run)
            assert not waits or verdict is Verdict.WAIT, f"{run} waits; its rule says {verdict} of {edges}"

    def _verdict(self, run: Seen) -> Verdict:
        if not run.trigger_rule:
            return Verdict.START
        states = [self._counts_as(above, condition) for above, condition in self._edges[run.id]]
        return decide(TriggerRule(run.trigger_rule), states)

    def _counts_as(self, id: int, condition: str) -> RunState:
        # What other runs have made of this one was told in the same tick.
        state = self._after[id].state if self._after[id].reason == "upstream" else self._began_as(id)
        taken = not condition or state not in TERMINAL or CONDITIONS[condition](state, self._outputs[id])
        return RunState(state) if taken else RunState.SKIPPED

    def _began_as(self, id: int) -> str:
        return self._before[id].state if id in self._before else "waiting"

    def _check_period(self, run: Seen, row: RunPeriod) -> None:
        expected = self._of_period(row)
        if not row.settled:
            over = run.state != "waiting"
            assert over or expected is Verdict.WAIT, f"{run} waits for a period that says {expected}"
            return
        assert expected is not Verdict.WAIT, f"{run} waits no more for a period, and should"
        failed = run.state == "upstream_failed"
        assert failed or expected is Verdict.START, f"{run} goes on after a period that says {expected}"

    def _of_period(self, row: RunPeriod) -> Verdict:
        if row.upstream_task_id is None:
            return Verdict.UPSTREAM_FAILED
        inside = [
            (run.nominal_at, run.id)
            for run in self._after.values()
            if run.task_id == row.upstream_task_id and run.nominal_at and row.start <= run.nominal_at < row.end
        ]
        last = self._began_as(max(inside)[1]) if inside else None
        if last == "succeeded":
            return Verdict.START
        if row.policy == "wait" or (last is not None and last not in TERMINAL):
            return Verdict.WAIT
        return Verdict.UPSTREAM_FAILED
