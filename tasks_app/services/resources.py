"""Pools: see, create, change."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.roles import Verb, require_everywhere, visible_project_ids
from tasks_app.errors import InvalidInput
from tasks_app.models import Pool, Run
from tasks_app.states import LIVE
from tasks_app.wakeup import nudge

FIELDS = ("name", "slots", "description")
DEFAULT_POOL = "default"


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
    _validate(pool)
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
        _validate(pool)
        pool.save(update_fields=FIELDS[1:])
        old, new = audit.changes(before, _describe(pool))
        audit.append(actor, "update", pool, now=now, before=old, after=new)
        nudge()
    return pool


def _validate(pool: Pool) -> None:
    try:
        pool.clean_fields()
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error


def _describe(pool: Pool) -> dict[str, Any]:
    return {name: getattr(pool, name) for name in FIELDS}
