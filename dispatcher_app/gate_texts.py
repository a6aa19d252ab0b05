"""Sentences about gates, for people, in their language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from django.utils.translation import gettext as _

from dispatcher_app.gates import Opening
from tasks_app.breaker import BreakerState
from tasks_app.models import Run, RunPeriod
from tasks_app.models.backfill import BackfillState
from tasks_app.routing import Routing
from tasks_app.states import TERMINAL, RunState


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def label(gate: str) -> str:
    """The name of a gate for people."""
    return {
        "state": _("State"),
        "hold": _("Hold"),
        "due": _("Due"),
        "start_deadline": _("Start deadline"),
        "upstream": _("Upstream"),
        "period": _("Period"),
        "pause": _("Pause"),
        "secrets": _("Secrets"),
        "overlap": _("Slots of the task"),
        "key": _("Concurrency key"),
        "pool": _("Pool"),
        "resource_capacity": _("Capacity of a resource"),
        "resource_rate": _("Rate of a resource"),
        "resource_window": _("Hours of a resource"),
        "resource_breaker": _("Circuit breaker"),
        "rate": _("Rate of the task"),
        "backfill": _("Backfill"),
        "labels": _("Required labels"),
        "routing": _("Routing"),
        "turn": _("Turn"),
        "worker": _("Worker"),
    }[gate]


def state(run: Run) -> str:
    """Where the run is; for one that is over, why it ended so."""
    if run.state == RunState.WAITING:
        return _("It waits for its gates.")
    if run.state == RunState.QUEUED:
        return _("All its gates were open; it has its slots and waits for a worker.")
    if run.state == RunState.RUNNING:
        return _("It is running.") if run.cancel_requested_at is None else _("It is running and was asked to end.")
    assert run.state in TERMINAL
    ended = _("It ended as %(state)s.") % {"state": run.state}
    return f"{ended} {run.reason_detail}".strip() if run.reason_detail or not run.reason else f"{ended} ({run.reason})"


def periods(waiting: Sequence[RunPeriod]) -> str:
    """What the run waits for in periods of other tasks."""
    texts = []
    for period in waiting[:3]:
        name = period.upstream_task.name if period.upstream_task else "?"
        values = {"task": name, "start": moment(period.start), "end": moment(period.end)}
        texts.append(_("It waits for the last run of %(task)s from %(start)s to %(end)s.") % values)
    return " ".join(texts)


def unlimited(gate: str) -> str:
    """What there is to say of a gate that the run is not subject to."""
    return {
        "overlap": _("Its task has no limit."),
        "key": _("It has no concurrency key."),
        "pool": _("Its pool has no limit."),
        "resource_capacity": _("It uses no resource of limited capacity."),
        "resource_rate": _("It uses no resource with a rate."),
        "resource_window": _("No resource that it uses is closed by its calendar."),
        "resource_breaker": _("No circuit breaker in its way has tripped."),
        "rate": _("Its task has no rate."),
        "backfill": _("It belongs to no backfill."),
        "labels": _("Its task requires no labels."),
        "routing": _("Any worker of its pool may take it."),
    }[gate]


def shared(gate: str, opening: Opening) -> str:
    """The sentence for one limit."""
    return _SENTENCES[gate](opening)


def _overlap(opening: Opening) -> str:
    live, limit = opening.facts
    return _("%(live)d of %(limit)d runs of its task are live.") % {"live": live, "limit": limit}


def _key(opening: Opening) -> str:
    live, limit = opening.facts
    values = {"live": live, "limit": limit, "key": opening.subject}
    return _("%(live)d of %(limit)d runs with the key %(key)s are live.") % values


def _pool(opening: Opening) -> str:
    used, slots = opening.facts
    values = {"used": used, "slots": slots, "pool": opening.subject, "weight": opening.amount}
    return _("%(used)d of %(slots)d slots of the pool %(pool)s are taken; it takes %(weight)d.") % values


def _capacity(opening: Opening) -> str:
    used, capacity, amount = opening.facts
    values = {"used": used, "capacity": capacity, "amount": amount, "name": opening.subject.name}
    return _("%(used)d of %(capacity)d of the resource %(name)s are taken; it takes %(amount)d.") % values


def _resource_rate(opening: Opening) -> str:
    values = {"name": opening.subject.name, "n": max(opening.free, 0)}
    return _("Starts that the rate of the resource %(name)s still allows now: %(n)d.") % values


def _window(opening: Opening) -> str:
    (reason,) = opening.facts
    return _("The resource %(name)s is closed: %(reason)s") % {"name": opening.subject.name, "reason": reason}


def _breaker(opening: Opening) -> str:
    name = opening.subject.name
    if opening.subject.state == BreakerState.OPEN and opening.free <= 0:
        return _("The circuit breaker of the resource %(name)s has tripped.") % {"name": name}
    values = {"name": name, "n": max(opening.free, 0)}
    return _("The circuit breaker of the resource %(name)s tries again and lets %(n)d more through.") % values


def _rate(opening: Opening) -> str:
    limit, window = opening.facts
    values = {"limit": limit, "window": window, "n": max(opening.free, 0)}
    return _("Its task may start %(limit)d times in %(window)d seconds, %(n)d times more now.") % values


def _backfill(opening: Opening) -> str:
    status, live, limit = opening.facts
    if status == BackfillState.PAUSED:
        return _("Its backfill is paused.")
    if status != BackfillState.ACTIVE:
        return _("Its backfill is cancelled.")
    return _("%(live)d of %(limit)d runs of its backfill are live.") % {"live": live, "limit": limit}


def _labels(opening: Opening) -> str:
    route = opening.subject
    if opening.free > 0:
        values = {"n": len(route.matching), "pool": route.pool, "labels": route.expression}
        return _("Workers of the pool %(pool)s with the labels %(labels)s: %(n)d.") % values
    if missing := route.missing:
        values = {"pool": route.pool, "missing": ", ".join(missing)}
        return _("No worker of the pool %(pool)s has the label that its task requires: %(missing)s.") % values
    values = {"pool": route.pool, "labels": route.expression}
    return _("No worker of the pool %(pool)s has all the labels that its task requires: %(labels)s.") % values


def _routing(opening: Opening) -> str:
    route = opening.subject
    if opening.free > 0:
        if route.strategy == Routing.BROADCAST:
            return _("Workers that get a run each: %(n)d.") % {"n": len(route.targets)}
        values = {"strategy": route.strategy, "n": len(route.targets or route.online)}
        return _("Workers to choose from by %(strategy)s: %(n)d.") % values
    if not route.names:
        return _("No worker of the pool %(pool)s takes runs.") % {"pool": route.pool}
    values = {"pool": route.pool, "names": ", ".join(route.names)}
    return _("Of the workers that its task names none takes runs in the pool %(pool)s: %(names)s.") % values


_SENTENCES: dict[str, Callable[[Opening], str]] = {
    "overlap": _overlap,
    "key": _key,
    "pool": _pool,
    "resource_capacity": _capacity,
    "resource_rate": _resource_rate,
    "resource_window": _window,
    "resource_breaker": _breaker,
    "rate": _rate,
    "backfill": _backfill,
    "labels": _labels,
    "routing": _routing,
}
