"""Pure rules of the task graph: trigger rules, cycle check, downstream closure. Imports no model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from tasks_app.states import TERMINAL, RunState


class TriggerRule(StrEnum):
    """When a downstream run may start, by the states of its upstream runs."""

    ALL_SUCCESS = "all_success"
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    ONE_FAILED = "one_failed"
    ONE_SUCCESS = "one_success"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    NONE_SKIPPED = "none_skipped"
    ALL_SKIPPED = "all_skipped"
    ALWAYS = "always"


class Verdict(StrEnum):
    """What a trigger rule says of a downstream run."""

    WAIT = "wait"
    START = "start"
    SKIP = "skip"
    UPSTREAM_FAILED = "upstream_failed"


def decide(rule: TriggerRule, upstream: Collection[RunState]) -> Verdict:
    """The verdict of `rule` for a run whose upstream runs are in these states.

    Every terminal state counts as exactly one of succeeded, skipped or failed. A rule answers as soon as the states
    not yet known can no longer change its answer.
    """
    pending = sum(state not in TERMINAL for state in upstream)
    succeeded = sum(state is RunState.SUCCEEDED for state in upstream)
    skipped = sum(state is RunState.SKIPPED for state in upstream)
    failed = len(upstream) - pending - succeeded - skipped
    if rule is TriggerRule.ALWAYS or not upstream:
        return Verdict.START
    settled = pending == 0
    match rule:
        case TriggerRule.ALL_SUCCESS:
            # A skipped upstream run alone settles nothing: one that fails later would weigh more.
            return _unless(failed, int(settled and skipped > 0), settled)
        case TriggerRule.ALL_FAILED:
            return _refuted(succeeded + skipped > 0, settled)
        case TriggerRule.ALL_DONE:
            return Verdict.START if settled else Verdict.WAIT
        case TriggerRule.ONE_FAILED:
            return _found(failed > 0, settled)
        case TriggerRule.ONE_SUCCESS:
            if settled and not succeeded and failed:
                return Verdict.UPSTREAM_FAILED
            return _found(succeeded > 0, settled)
        case TriggerRule.ONE_DONE:
            return _found(succeeded + failed > 0, settled)
        case TriggerRule.NONE_FAILED:
            return _unless(failed, 0, settled)
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS:
            return _unless(failed, int(settled and succeeded == 0), settled)
        case TriggerRule.NONE_SKIPPED:
            return _refuted(skipped > 0, settled)
        case TriggerRule.ALL_SKIPPED:
            return _refuted(succeeded + failed > 0, settled)
    raise AssertionError(rule)


def cycle_path(edges: Iterable[tuple[int, int]]) -> list[int] | None:
    """The nodes of one cycle in (upstream, downstream) edges, first node repeated at the end; None if there is none."""
    graph: dict[int, set[int]] = {}
    for upstream, downstream in edges:
        graph.setdefault(upstream, set()).add(downstream)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return None


def closure(roots: Iterable[int], downstream_of: Mapping[int, Collection[int]]) -> list[int]:
    """All nodes reachable from the roots, the roots left out, each once, in an order that is stable."""
    seen = set(roots)
    found: list[int] = []
    frontier = list(seen)
    while frontier:
        for node in sorted(downstream_of.get(frontier.pop(0), ())):
            if node not in seen:
                seen.add(node)
                found.append(node)
                frontier.append(node)
    return found


def _unless(failed: int, skipped: int, settled: bool) -> Verdict:
    if failed:
        return Verdict.UPSTREAM_FAILED
    if skipped:
        return Verdict.SKIP
    return Verdict.START if settled else Verdict.WAIT


def _refuted(refuted: bool, settled: bool) -> Verdict:
    if refuted:
        return Verdict.SKIP
    return Verdict.START if settled else Verdict.WAIT


def _found(found: bool, settled: bool) -> Verdict:
    if found:
        return Verdict.START
    return Verdict.SKIP if settled else Verdict.WAIT
