"""The audit trail: one row per change, appended in the transaction of the change itself; audit_chain seals it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import models, transaction

from access_app.actors import Actor
from access_app.models import AuditEntry, AuditPending


def append(
    actor: Actor,
    verb: str,
    obj: models.Model,
    *,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Record that `actor` did `verb` to `obj` at `now`. `before` and `after` are plain JSON values, without secrets."""
    _append([_entry(actor, verb, obj, now, before, after)], actor.trail)


def append_all(
    actor: Actor, verb: str, done: Iterable[tuple[models.Model, dict[str, Any] | None]], *, now: datetime
) -> None:
    """The same for many objects, each with what it is `after`, in as many statements as for one."""
    _append([_entry(actor, verb, obj, now, None, after) for obj, after in done], actor.trail)


def append_refusal(
    who: str,
    user: Any,
    *,
    subject: str,
    name: str,
    told: dict[str, Any],
    address: str | None,
    request_id: str,
    now: datetime,
) -> None:
    """Record that somebody was refused before anybody could act: there is no actor yet, and no object."""
    entry = AuditEntry(
        at=now,
        actor=who[:200],
        user=user,
        verb="refused",
        object_type=subject,
        object_id="",
        object_name=name[:200],
        after=told,
        address=address,
        request_id=request_id,
    )
    _append([entry], None)


def _append(entries: list[AuditEntry], trail: list[Any] | None) -> None:
    """Add the entries, each with the note that it is still to be sealed; one transaction, as without that note an
    entry counts as forged."""
    if trail is not None:
        trail.extend(entries)
    with transaction.atomic(savepoint=False):
        made = AuditEntry.objects.bulk_create(entries)
        AuditPending.objects.bulk_create([AuditPending(entry_id=entry.pk) for entry in made])


def _entry(
    actor: Actor,
    verb: str,
    obj: models.Model,
    now: datetime,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> AuditEntry:
    return AuditEntry(
        at=now,
        actor=actor.name[:200],
        user=actor.user,
        verb=verb,
        object_type=obj._meta.model_name or "",
        object_id=str(obj.pk),
        object_name=str(obj)[:200],
        before=before,
        after=after,
        address=actor.address,
        request_id=actor.request_id,
    )


def changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only the entries that differ, as (before, after)."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}
