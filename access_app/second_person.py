"""Four eyes: services that a rule of approval holds are not carried out but kept for a second person to decide.

The rule stands here once, around the services themselves, so that it holds at every door; the system is not held.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.db import transaction

from access_app import encryption, stored_calls
from access_app.actors import Actor
from access_app.approval_models import ApprovalPolicy, Kind
from access_app.errors import SchedulerError

P = ParamSpec("P")
R = TypeVar("R")
Service = Callable[Concatenate[Actor, P], R]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call has its effect: a project (None: the whole installation), and the tags of the task there."""

    project_id: int | None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A service that may be held: how its stored calls are carried out."""

    kind: Kind
    name: str
    service: Callable[..., Any]
    where: Callable[[Mapping[str, Any]], Sequence[Place]]
    data: Mapping[str, type[Any]]
    # The entity tag of its first row, which the service compares under its own lock.
    tag: Callable[[Any], str] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is held: what is stored of it."""

    actor: Actor
    operation: Operation
    place: Place
    # Kind, key and name of what it is about, as they were before anything was tried.
    target: tuple[str, str, str]
    payload: Any
    versions: dict[str, str]
    effects: list[dict[str, Any]]
    now: Any


class ApprovalRequired(SchedulerError):
    """This needs the approval of a second person; it was asked for and is not done yet."""

    code = "approval_required"
    status = 202

    def __init__(self, call: Call) -> None:
        self.call = call
        super().__init__()


OPERATIONS: dict[str, Operation] = {}
_FLAGS = {Kind.RUN: "runs", Kind.EDIT: "edits", Kind.SECRET: "secrets"}


def held(
    kind: Kind,
    name: str,
    where: Callable[[Mapping[str, Any]], Sequence[Place]],
    *,
    data: Sequence[type[Any]] = (),
    nothing_new: Callable[[Any], bool] | None = None,
    tag: Callable[[Any], str] | None = None,
) -> Callable[[Service[P, R]], Service[P, R]]:
    """A service that a rule may hold. `where` tells from the arguments, by name, in which projects and for which tags
    it acts; `data` are the dataclasses among its arguments; `nothing_new` tells from its answer that nothing was done;
    `tag` is that of its first row, for a service that takes `expected`.
    """

    def wrap(service: Service[P, R]) -> Service[P, R]:
        kinds = {f"{one.__module__}:{one.__qualname__}": one for one in data}
        operation = OPERATIONS[name] = Operation(kind, name, service, where, kinds, tag)
        signature = inspect.signature(service)

        @wraps(service)
        def guarded(actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if actor.is_system or actor.let_through:
                return service(actor, *args, **kwargs)
            arguments = _named(signature, actor, args, kwargs)
            place = held_place(kind, where(arguments))
            if place is None:
                return service(actor, *args, **kwargs)
            call = _call(operation, actor, arguments, place)
            answer, effects = rehearsed(operation, actor, arguments)
            if nothing_new is not None and nothing_new(answer):
                return service(replace(actor, let_through=True), *args, **kwargs)
            raise ApprovalRequired(replace(call, effects=effects))

        return guarded

    return wrap


def held_place(kind: Kind, places: Sequence[Place]) -> Place | None:
    """The first of the places in which a rule asks for a second person for this kind of call; None where none does."""
    policies = ApprovalPolicy.objects.all()
    if kind in _FLAGS:
        policies = policies.filter(**{_FLAGS[kind]: True})
    rows = list(policies.values_list("project_id", "tag"))
    for place in places:
        for project_id, tag in rows:
            if project_id in (None, place.project_id) and (not tag or tag in place.tags):
                return place
    return None


def rehearsed(operation: Operation, actor: Actor, arguments: Mapping[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Carry the call out and take it back: its answer, and what it would tell the audit trail.

    So whoever asks or approves hears at once what is wrong with it, and that it is not theirs to do.
    """
    trail: list[Any] = []
    with transaction.atomic():
        answer = operation.service(replace(actor, let_through=True, trail=trail), **arguments)
        transaction.set_rollback(True)
    effects = [
        {"verb": one.verb, "object": one.object_type, "name": one.object_name, "before": one.before, "after": one.after}
        for one in trail
    ]
    return answer, effects


def opened(payload: Any) -> dict[str, Any]:
    """The stored arguments, also where they are sealed."""
    found: dict[str, Any] = json.loads(encryption.decrypt(payload["~sealed"])) if "~sealed" in payload else payload
    return found


def _call(operation: Operation, actor: Actor, arguments: Mapping[str, Any], place: Place) -> Call:
    kept = {name: stored_calls.stored(value) for name, value in arguments.items() if name != "now"}
    payload = kept
    if operation.kind is Kind.SECRET:
        payload = {"~sealed": encryption.encrypt(json.dumps(kept))}
    row, fields = stored_calls.rows_in(arguments)[0], arguments.get("fields")
    made = fields.get("name") if isinstance(fields, Mapping) and operation.name.endswith(".create") else None
    target = (row._meta.model_name or "", str(row.pk), str(made or row)[:200])
    now = arguments["now"]
    return Call(actor, operation, place, target, payload, stored_calls.versions(arguments), [], now)


def _named(signature: inspect.Signature, actor: Actor, args: Any, kwargs: Any) -> dict[str, Any]:
    named = dict(signature.bind(actor, *args, **kwargs).arguments)
    del named[next(iter(signature.parameters))]
    return named
