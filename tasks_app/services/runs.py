"""Runs: trigger, cancel, terminate, rerun, hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.roles import Verb, require
from access_app.second_person import held
from tasks_app import executors
from tasks_app.concurrency_keys import key_of
from tasks_app.ending import ask_to_end
from tasks_app.errors import BatchTooLarge, InvalidInput, NotFound, WrongState
from tasks_app.macros import MacroError
from tasks_app.models import Run, Task, TaskVersion
from tasks_app.models.run import RunType
from tasks_app.models.task import PRIORITY_NAMES
from tasks_app.planning import Firing, plan_runs
from tasks_app.queries import get_visible
from tasks_app.services import places, secrets
from tasks_app.services.pauses import require_taking_runs
from tasks_app.services.reruns import same_part
from tasks_app.states import TERMINAL, RunState
from tasks_app.wakeup import nudge

MAX_BATCH = 10_000
FARTHEST_NOT_BEFORE = timedelta(days=3660)


@dataclass(slots=True)
class Request:
    """One run that somebody asks for. `priority` 0-100 or None for the task's own; `not_before` aware or None."""

    params: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    idempotency_key: str | None = None
    not_before: datetime | None = None


@held(Kind.RUN, "runs.trigger", places.of_task, data=(Request,), nothing_new=lambda answer: not answer[1])
def trigger(actor: Actor, task: Task, request: Request, *, now: datetime) -> tuple[Run, bool]:
    """Plan a run of the task now. Returns the run and whether it is new: the same key gives the same run.

    Raises InvalidInput at the field that is wrong, WrongState when the task is drained, NotFound when the run was
    deleted at this moment.
    """
    require(actor, Verb.RUN, task.project_id)
    ids, created = _plan(actor, task, [_firing(task, request, now)], now)
    return get_visible(Run.objects.select_related("task", "version"), ids[0]), created == 1


@held(Kind.RUN, "runs.trigger_batch", places.of_task, data=(Request,), nothing_new=lambda answer: not answer[1])
def trigger_batch(actor: Actor, task: Task, requests: Sequence[Request], *, now: datetime) -> tuple[list[int], int]:
    """Plan a run for each request, up to 10,000, in a handful of statements.

    Returns the run ids in the order of the requests and how many are new. Raises InvalidInput or BatchTooLarge.
    """
    require(actor, Verb.RUN, task.project_id)
    if len(requests) > MAX_BATCH:
        raise BatchTooLarge(_("A batch holds at most %(n)d items; send it in several parts.") % {"n": MAX_BATCH})
    if not requests:
        raise InvalidInput(items=_("Give at least one item."))
    return _plan(actor, task, [_item(task, request, place, now) for place, request in enumerate(requests)], now)


def cancel(actor: Actor, run: Run, *, now: datetime) -> Run:
    """Ask that the run does not go on, and with it all parts that were made of it. What has not started is cancelled at
    once; what runs is ended by its worker. Raises WrongState when all is over already, NotFound when it was deleted
    meanwhile."""
    return _ask_to_end(actor, run, now, kill=False)


def terminate(actor: Actor, run: Run, *, now: datetime) -> Run:
    """Kill the run: as `cancel`, but what runs gets KILL at once, without TERM and the time to clean up.

    Also after a cancel that still waits out its grace. Raises as `cancel`.
    """
    return _ask_to_end(actor, run, now, kill=True)


def _ask_to_end(actor: Actor, run: Run, now: datetime, *, kill: bool) -> Run:
    require(actor, Verb.CANCEL, run.task.project_id)
    with transaction.atomic():
        # Held still meanwhile: a run that went back to waiting between the two looks would escape both.
        locked = Run.objects.select_for_update(no_key=True)
        state = get_visible(locked, run.pk).state
        # By a statement of their own: parts that are made until the lock is ours are seen by none before.
        parts = dict(locked.filter(shard_of=run.pk).order_by("pk").values_list("pk", "state"))
        live = [pk for pk, each in {run.pk: state, **parts}.items() if each not in TERMINAL]
        if not live:
            raise WrongState(_("The run is %(state)s already.") % {"state": state}, state=state)
        ask_to_end(Run.objects.filter(pk__in=live), now=now, actor=actor.name, kill=kill)
        audit.append(actor, "terminate" if kill else "cancel", run, now=now)
        nudge()
    run.refresh_from_db()
    return run


@held(Kind.RUN, "runs.rerun", places.of_run)
def rerun(actor: Actor, run: Run, *, now: datetime) -> Run:
    """Plan a new run of the task's current version with the parameters of this one, which must be over.

    Raises WrongState when it is not, or the task takes no runs; NotFound when it was deleted meanwhile.
    """
    require(actor, Verb.RUN, run.task.project_id)
    if run.state not in TERMINAL:
        raise WrongState(_("The run is %(state)s; it can be run again once it is over.") % {"state": run.state})
    require_taking_runs(run.task, now)
    firing = Firing(run.task, RunType.RERUN, now, nominal_at=run.nominal_at, params=run.params, rerun_of_id=run.pk)
    with transaction.atomic():
        # Until the new run is there, which keeps this one: see forgetting.
        if not Run.objects.select_for_update(no_key=True).filter(pk=run.pk).values_list("pk"):
            raise NotFound
        (id,) = plan_runs([firing], now=now, actor=actor.name).run_ids
        assert id is not None
        if part := same_part(run):
            Run.objects.filter(pk=id).update(**part)
        audit.append(actor, "rerun", run, now=now, after={"run": id})
        nudge()
    return Run.objects.select_related("task", "version").get(pk=id)


def hold(actor: Actor, run: Run, *, now: datetime) -> Run:
    """Keep a waiting run from starting until it is released. Raises WrongState when it waits no more."""
    return _set_held(actor, run, True, now)


def unhold(actor: Actor, run: Run, *, now: datetime) -> Run:
    """Let a held run go on."""
    return _set_held(actor, run, False, now)


def _set_held(actor: Actor, run: Run, held: bool, now: datetime) -> Run:
    require(actor, Verb.CANCEL, run.task.project_id)
    with transaction.atomic():
        if Run.objects.filter(pk=run.pk, state=RunState.WAITING).update(held=held) == 0:
            state = get_visible(Run.objects.all(), run.pk).state
            raise WrongState(_("The run is %(state)s; only a waiting run can be held.") % {"state": state})
        audit.append(actor, "hold" if held else "unhold", run, now=now)
        nudge()
    run.refresh_from_db()
    return run


def _plan(actor: Actor, task: Task, firings: list[Firing], now: datetime) -> tuple[list[int], int]:
    unique, places = _fold_keys(firings)
    with transaction.atomic():
        ids, created = _plan_or_find(actor, task, unique, now)
        if created:
            # Only now: asking again with a key that is known is not asking for a new run.
            require_taking_runs(task, now)
        audit.append(actor, "trigger", task, now=now, after={"runs": ids[:100], "created": created})
        nudge()
    return [ids[place] for place in places], created


def _item(task: Task, request: Request, place: int, now: datetime) -> Firing:
    try:
        return _firing(task, request, now)
    except InvalidInput as error:
        raise InvalidInput(**{f"items[{place}].{name}": texts for name, texts in error.errors.items()}) from error


def _firing(task: Task, request: Request, now: datetime) -> Firing:
    version = task.version
    assert isinstance(version, TaskVersion)
    executors.check_params(version.executor, {**version.params, **_object(request.params)})
    executors.check_macros(request.params)
    secrets.check_run(request.params)
    priority_number(request.priority)
    due_at = max(now, request.not_before) if request.not_before else now
    key = request.idempotency_key
    if key is not None and (not 0 < len(key) <= 200 or "\x00" in key):
        raise InvalidInput(idempotency_key=_("An idempotency key has 1 to 200 characters."))
    if request.not_before is not None and request.not_before > now + FARTHEST_NOT_BEFORE:
        raise InvalidInput(not_before=_("This lies more than ten years ahead."))
    return Firing(
        task,
        RunType.MANUAL,
        due_at=due_at,
        params=request.params,
        priority=request.priority,
        idempotency_key=request.idempotency_key,
        concurrency_key=_concurrency_key(task, {**version.params, **request.params}, due_at),
    )


def _concurrency_key(task: Task, params: dict[str, Any], asked_at: datetime) -> str:
    if not task.concurrency_key:
        return ""
    try:
        return key_of(
            task.concurrency_key,
            task=task.name,
            project=task.project.name,
            nominal_at=asked_at,
            zone=settings.SCHEDULER_TIME_ZONE,
            params=params,
        )
    except MacroError as error:
        raise InvalidInput(params=_("The concurrency key cannot be made: %(why)s") % {"why": error.message}) from error


def _object(params: Any) -> dict[str, Any]:
    if not isinstance(params, dict):
        raise InvalidInput(params=_("Parameters are an object of names and values."))
    return params


def _fold_keys(firings: list[Firing]) -> tuple[list[Firing], list[int]]:
    """Drop repeated idempotency keys inside one batch: the distinct firings, and for each request the place of its.

    Those with a key come last, by key: two batches of the same keys that insert them in another order would wait for
    each other in a circle.
    """
    of_key: dict[str, Firing] = {}
    for firing in firings:
        if firing.idempotency_key is not None:
            of_key.setdefault(firing.idempotency_key, firing)
    keys = sorted(of_key)
    distinct = [firing for firing in firings if firing.idempotency_key is None]
    place_of_key = {key: place for place, key in enumerate(keys, start=len(distinct))}
    unkeyed = iter(range(len(distinct)))
    places = [
        next(unkeyed) if firing.idempotency_key is None else place_of_key[firing.idempotency_key] for firing in firings
    ]
    return distinct + [of_key[key] for key in keys], places


def _plan_or_find(actor: Actor, task: Task, firings: list[Firing], now: datetime) -> tuple[list[int], int]:
    """The id of the run of each firing, new or known by its key, and how many are new."""
    found: list[int | None] = [None] * len(firings)
    created = 0
    # More than once only where the run that had a key was deleted before it was looked up: then the key is free again.
    while open_places := [place for place, id in enumerate(found) if id is None]:
        planned = plan_runs([firings[place] for place in open_places], now=now, actor=actor.name).run_ids
        created += sum(id is not None for id in planned)
        keys = [firings[place].idempotency_key for place, id in zip(open_places, planned, strict=True) if id is None]
        known = dict(
            Run.objects.filter(task=task, idempotency_key__in=keys).values_list("idempotency_key", "pk") if keys else ()
        )
        for place, id in zip(open_places, planned, strict=True):
            found[place] = known.get(firings[place].idempotency_key) if id is None else id
    return [id for id in found if id is not None], created


def priority_number(value: str | int | None) -> int | None:
    """A priority by name or number as a number. Raises InvalidInput."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100):
        return value
    if isinstance(value, str) and value in PRIORITY_NAMES:
        return PRIORITY_NAMES[value]
    raise InvalidInput(priority=_("Priority is a number from 0 to 100, or one of: low, normal, high, critical."))


def priority_name(number: int) -> str | int:
    """The name of a priority that has one, else the number."""
    return next((name for name, value in PRIORITY_NAMES.items() if value == number), number)
