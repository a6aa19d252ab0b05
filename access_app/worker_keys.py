"""Worker keys: create, see, revoke, and find by their text."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from knox.crypto import hash_token

from access_app import audit
from access_app.actors import Actor
from access_app.errors import InvalidInput
from access_app.models import WorkerKey
from access_app.roles import Verb, require_everywhere
from access_app.services import administers

# Begins as API keys do, so that one pattern finds either where it has leaked.
PREFIX = "dts_worker_"
SHOWN = len(PREFIX) + 6
LONGEST = 200


def create(actor: Actor, *, name: str, pools: Sequence[Any], now: datetime) -> tuple[WorkerKey, str]:
    """Create a key for workers of these pools and return it with its text, which nobody can read again.

    Raises PermissionRefused for all but administrators of the installation, InvalidInput at the field that is wrong.
    """
    require_everywhere(actor, Verb.MANAGE_WORKERS)
    if not pools:
        raise InvalidInput(pools=_("Name one pool at least."))
    try:
        WorkerKey._meta.get_field("name").clean(name, None)
    except ValidationError as error:
        raise InvalidInput(name=error.messages) from error
    token = PREFIX + secrets.token_hex(32)
    key = WorkerKey(name=name, prefix=token[:SHOWN], digest=hash_token(token), created_at=now, created_by=actor.user)
    with transaction.atomic():
        key.save(force_insert=True)
        key.pools.set(pools)
        audit.append(actor, "create", key, now=now, after=_describe(key))
    return key, token


def keys_visible_to(actor: Actor) -> QuerySet[WorkerKey]:
    """All worker keys, revoked ones too, for administrators of the installation; for others there are none."""
    keys: QuerySet[WorkerKey] = WorkerKey.objects.select_related("created_by").prefetch_related("pools")
    return keys if administers(actor) else keys.none()


def revoke(actor: Actor, key: WorkerKey, *, now: datetime) -> WorkerKey:
    """Make the key useless from now on: the next call with it is refused. Nothing happens to one that is revoked.

    What runs on its workers is given away once their leases end. Raises PermissionRefused as `create`.
    """
    require_everywhere(actor, Verb.MANAGE_WORKERS)
    with transaction.atomic():
        key = WorkerKey.objects.select_for_update(no_key=True).get(pk=key.pk)
        if key.revoked_at is None:
            key.revoked_at = now
            key.save(update_fields=["revoked_at"])
            audit.append(actor, "revoke", key, now=now, before=_describe(key))
    return key


def find(token: str) -> WorkerKey | None:
    """The key of that text, unless it was revoked."""
    if len(token) > LONGEST or not token.isascii():
        return None
    return WorkerKey.objects.filter(digest=hash_token(token), revoked_at=None).first()


def _describe(key: WorkerKey) -> dict[str, Any]:
    return {"name": key.name, "pools": key.pool_names}
