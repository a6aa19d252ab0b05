"""Pools and resources: what runs share. See, create, change; delete a resource, and turn its breaker by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet, Sum
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.roles import Verb, require_everywhere, visible_project_ids
from tasks_app import breaker, breaker_columns
from tasks_app.breaker import Breaker, BreakerPolicy, BreakerState
from tasks_app.errors import InvalidInput, WrongState
from tasks_app.models import Calendar, Pool, Resource, Run, TaskResource
from tasks_app.queries import get_visible
from tasks_app.states import LIVE, RunState
from tasks_app.wakeup import nudge

FIELDS = ("name", "slots", "description")
DEFAULT_POOL = "default"
RESOURCE_FIELDS = (
    "name",
    "description",
    "capacity",
    "rate_limit",
    "rate_window_seconds",
    "calendar",
    "breaker_failures",
    "breaker_ratio",
    "breaker_window",
    "breaker_minimum",
    "breaker_open_seconds",
    "breaker_open_seconds_at_most",
)


def pools_visible_to(actor: Actor) -> QuerySet[Pool]:
    """All pools for whoever has a role in some project: pools are shared between projects."""
    return Pool.objects.none() if visible_project_ids(actor) == [] else Pool.objects.all()


def live_runs_of_pools() -> dict[tuple[int, str], int]:
    """{(pool id, "queued" or "running"): number of runs}, from the live runs alone."""
    rows = Run.objects.filter(state__in=sorted(LIVE)).order_by().values_list("pool_id", "state")
    return {(pool_id, state): n for pool_id, state, n in rows.annotate(n=Count("pk"))}


def default_pool() -> Pool:
    """The pool of tasks that name none. Raises InvalidInput when there is none of that name."""
    pool = Pool.objects.filter(name=DEFAULT_POOL).first()
    if pool is None:
        raise InvalidInput(pool=_("There is no pool named default; name another."))
    return pool


def create_pool(actor: Actor, fields: dict[str, Any], *, now: datetime) -> Pool:
    """Create a pool from FIELDS. Raises InvalidInput at the field that is wrong."""
    require_everywhere(actor, Verb.MANAGE)
    pool = Pool(**{name: fields[name] for name in FIELDS if name in fields})
    _clean(pool)
    with transaction.atomic():
        try:
            with transaction.atomic():
                pool.save()
        except IntegrityError as error:
            raise InvalidInput(name=_("A pool of this name exists already.")) from error
        audit.append(actor, "create", pool, now=now, after=_describe(pool))
    return pool


def update_pool(actor: Actor, pool: Pool, fields: dict[str, Any], *, now: datetime) -> Pool:
    """Change slots or description; more slots let waiting runs start at once, fewer take effect as runs end."""
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        pool = Pool.objects.select_for_update().get(pk=pool.pk)
        before = _describe(pool)
        for name in FIELDS[1:]:
            if name in fields:
                setattr(pool, name, fields[name])
        _clean(pool)
        _check_weights(pool)
        pool.save(update_fields=FIELDS[1:])
        old, new = audit.changes(before, _describe(pool))
        audit.append(actor, "update", pool, now=now, before=old, after=new)
        nudge()
    return pool


def resources_visible_to(actor: Actor) -> QuerySet[Resource]:
    """All resources for whoever has a role in some project: they are shared between projects, as pools are."""
    rows = Resource.objects.select_related("calendar")
    return rows.none() if visible_project_ids(actor) == [] else rows


def in_use_of_resources(ids: Iterable[int]) -> dict[int, int]:
    """{resource id: how much of it the queued and running runs take}; one that is not in here is not in use."""
    uses = TaskResource.objects.filter(resource_id__in=list(ids), task__runs__state__in=sorted(LIVE)).order_by()
    return dict(uses.values_list("resource_id").annotate(n=Sum("amount")))


def runs_held_by_breakers(resources: Iterable[Resource], *, now: datetime) -> dict[int, int]:
    """{resource id: how many due runs wait} for those whose breaker is not closed."""
    shut = [row.pk for row in resources if row.breaker_state != BreakerState.CLOSED]
    if not shut:
        return {}
    waiting = Run.objects.filter(state=RunState.WAITING, upstream_ready=True, held=False, due_at__lte=now).order_by()
    held = waiting.filter(task__task_resources__resource_id__in=shut)
    return dict(held.values_list("task__task_resources__resource_id").annotate(n=Count("pk")))


def create_resource(actor: Actor, fields: dict[str, Any], *, now: datetime) -> Resource:
    """Create a resource from RESOURCE_FIELDS. Raises InvalidInput at the field that is wrong."""
    require_everywhere(actor, Verb.MANAGE)
    resource = Resource(**{name: fields[name] for name in RESOURCE_FIELDS if name in fields})
    _validate_resource(resource)
    with transaction.atomic():
        try:
            with transaction.atomic():
                resource.save()
        except IntegrityError as error:
            raise InvalidInput(name=_("A resource of this name exists already.")) from error
        audit.append(actor, "create", resource, now=now, after=_describe_resource(resource))
    return resource


def update_resource(actor: Actor, resource: Resource, fields: dict[str, Any], *, now: datetime) -> Resource:
    """Change anything but the name. A lower capacity takes effect as runs end; without a rule the breaker is closed.

    Raises InvalidInput at the field that is wrong, NotFound when it was deleted meanwhile.
    """
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        resource = _locked_resource(resource)
        before = _describe_resource(resource)
        for name in RESOURCE_FIELDS[1:]:
            if name in fields:
                setattr(resource, name, fields[name])
        _validate_resource(resource)
        if not breaker_columns.has_breaker(resource):
            breaker_columns.put(resource, Breaker())
        resource.save(update_fields=[*RESOURCE_FIELDS[1:], *breaker_columns.STATE_COLUMNS])
        old, new = audit.changes(before, _describe_resource(resource))
        audit.append(actor, "update", resource, now=now, before=old, after=new)
        nudge()
    return resource


def delete_resource(actor: Actor, resource: Resource, *, now: datetime) -> None:
    """Delete a resource that no task uses. Raises WrongState where one does."""
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        # With its key: no task can take it up meanwhile.
        resource = _locked_resource(resource, no_key=False)
        users = list(resource.tasks.order_by("name").values_list("name", flat=True)[:4])
        if users:
            names = ", ".join(users[:3]) + (", …" if len(users) > 3 else "")
            raise WrongState(
                _("The resource is used by tasks (%(names)s); take it from them first.") % {"names": names}
            )
        audit.append(actor, "delete", resource, now=now, before=_describe_resource(resource))
        resource.delete()


def trip(actor: Actor, resource: Resource, *, now: datetime) -> Resource:
    """Open the breaker by hand: nothing that uses the resource starts, until probes after its time succeed.

    Raises WrongState for a resource without a breaker.
    """

    def opened(state: Breaker, policy: BreakerPolicy) -> Breaker:
        return breaker.trip(state, policy, now=now)

    return _turn(actor, resource, "trip", opened, now)


def reset(actor: Actor, resource: Resource, *, now: datetime) -> Resource:
    """Close the breaker by hand, forgetting what it has seen. Raises WrongState for a resource without a breaker."""

    def closed(state: Breaker, _policy: BreakerPolicy) -> Breaker:
        return breaker.reset(state, now=now)

    return _turn(actor, resource, "reset", closed, now)


def _turn(
    actor: Actor,
    resource: Resource,
    verb: str,
    change: Callable[[Breaker, BreakerPolicy], Breaker],
    now: datetime,
) -> Resource:
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        resource = _locked_resource(resource)
        if not breaker_columns.has_breaker(resource):
            raise WrongState(_("The resource has no circuit breaker; say first after which failures it is to trip."))
        was = resource.breaker_state
        after = change(breaker_columns.breaker_of(resource), breaker_columns.policy_of(resource))
        breaker_columns.put(resource, after)
        resource.save(update_fields=breaker_columns.STATE_COLUMNS)
        until = resource.breaker_open_until
        now_is = {"state": resource.breaker_state, "open_until": until.isoformat() if until else None}
        audit.append(actor, verb, resource, now=now, before={"state": was}, after=now_is)
        nudge()
    return resource


def _locked_resource(resource: Resource, *, no_key: bool = True) -> Resource:
    rows = Resource.objects.select_for_update(of=("self",), no_key=no_key).select_related("calendar")
    return get_visible(rows, resource.pk)


def _validate_resource(resource: Resource) -> None:
    _clean(resource)
    check_rate(resource.rate_limit, resource.rate_window_seconds)
    if resource.calendar is not None and resource.calendar.project_id is not None:
        raise InvalidInput(calendar=_("The calendar belongs to a project; a resource takes one that all share."))
    if resource.breaker_minimum > resource.breaker_window:
        raise InvalidInput(
            breaker_minimum=_("This cannot be more than the attempts that are looked at (breaker_window).")
        )
    if resource.breaker_open_seconds_at_most < resource.breaker_open_seconds:
        raise InvalidInput(breaker_open_seconds_at_most=_("This cannot be less than breaker_open_seconds."))
    if not resource._state.adding and resource.capacity is not None:
        larger = resource.task_resources.filter(amount__gt=resource.capacity).select_related("task").first()
        if larger is not None:
            text = _("The task %(name)s takes %(n)d of it at once; with less it could never start.")
            raise InvalidInput(capacity=text % {"name": larger.task.name, "n": larger.amount})


def check_rate(limit: int | None, window_seconds: int | None) -> None:
    """Raises InvalidInput at the half that is missing: starts per window need both, or neither."""
    if limit is not None and window_seconds is None:
        raise InvalidInput(rate_window_seconds=_("Give the window in seconds, too, or neither of the two."))
    if limit is None and window_seconds is not None:
        raise InvalidInput(rate_limit=_("Give the number of starts, too, or neither of the two."))


def _describe_resource(resource: Resource) -> dict[str, Any]:
    values = {name: getattr(resource, name) for name in RESOURCE_FIELDS}
    return values | {"calendar": resource.calendar.name if isinstance(resource.calendar, Calendar) else None}


def _check_weights(pool: Pool) -> None:
    heavier = pool.tasks.filter(weight__gt=pool.slots).order_by("name").first() if pool.slots is not None else None
    if heavier is not None:
        text = _("A run of the task %(name)s takes %(n)d slots; with less it could never start.")
        raise InvalidInput(slots=text % {"name": heavier.name, "n": heavier.weight})


def _clean(row: Pool | Resource) -> None:
    try:
        row.clean_fields()
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error


def _describe(pool: Pool) -> dict[str, Any]:
    return {name: getattr(pool, name) for name in FIELDS}
