"""The audit trail: one row per change, appended in the transaction of the change itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models

from access_app.actors import Actor
from access_app.models import AuditEntry


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
    AuditEntry.objects.create(
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
