"""API keys: create, see, delete; and who may read the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.errors import InvalidInput, PermissionRefused
from access_app.models import ApiKey, AuditEntry
from access_app.network import Network, parsed_network
from access_app.roles import ROLE_ORDER, Verb, require_everywhere

LONGEST_LIFE = timedelta(days=3650)
MOST_ADDRESSES = 50


def create_key(
    actor: Actor,
    user: AbstractBaseUser,
    *,
    name: str,
    role: str,
    expiry: datetime | None,
    now: datetime,
    scopes: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> tuple[ApiKey, str]:
    """Create a key for `user` and return it with its text, which nobody can read again. `expiry` is aware, or None.

    Without `scopes` it may do all that its role may, without `addresses` it is taken from everywhere. Raises
    PermissionRefused for somebody else's key and for one that may in any way do more than the key that asks, or longer;
    InvalidInput at the field that is wrong.
    """
    if actor.user != user:
        require_everywhere(actor, Verb.MANAGE)
    _check_role(role)
    limits = Limits(role, _scopes(scopes), _addresses(addresses))
    if _is_above(role, actor.role_cap):
        raise PermissionRefused(_("A key cannot create a key of a higher role than its own."), least_role=role)
    if expiry is not None and not now < expiry <= now + LONGEST_LIFE:
        raise InvalidInput(expires_at=_("The end must lie in the future, at most ten years ahead."))
    if actor.key_expiry is not None and (expiry is None or expiry > actor.key_expiry):
        raise PermissionRefused(_("A key cannot create a key that outlives it."))
    _require_narrower(actor, limits)
    try:
        ApiKey._meta.get_field("name").clean(name, None)
    except ValidationError as error:
        raise InvalidInput(name=error.messages) from error
    with transaction.atomic():
        key, token = ApiKey.objects.create(
            user=user,
            expiry=None,
            name=name,
            role=role,
            scopes=list(limits.scopes),
            addresses=[str(network) for network in limits.addresses],
        )
        # Not left to knox: it would count a life from its own, later look at the clock.
        key.expiry = expiry
        key.save(update_fields=["expiry"])
        audit.append(actor, "create", key, now=now, after=_describe(key))
    return key, token


def keys_visible_to(actor: Actor) -> QuerySet[ApiKey]:
    """The actor's own keys; all of them for an administrator of the installation."""
    keys: QuerySet[ApiKey] = ApiKey.objects.select_related("user")
    return keys if administers(actor) else keys.filter(user=actor.user)


def delete_key(actor: Actor, key: ApiKey, *, now: datetime) -> None:
    """Make the key useless from now on. A key may delete itself and others, but none of a higher role than its own."""
    if actor.user != key.user:
        require_everywhere(actor, Verb.MANAGE)
    if _is_above(key.role, actor.role_cap):
        raise PermissionRefused(_("A key cannot delete a key of a higher role than its own."), least_role=key.role)
    if actor.scopes is not None and not (key.scopes and actor.scopes >= set(key.scopes)):
        raise PermissionRefused(_("A key cannot delete a key with more scopes than its own."))
    with transaction.atomic():
        audit.append(actor, "delete", key, now=now, before=_describe(key))
        key.delete()


def audit_entries_visible_to(actor: Actor) -> QuerySet[AuditEntry]:
    """The audit trail. Raises PermissionRefused for everybody but an administrator of the installation."""
    require_everywhere(actor, Verb.MANAGE)
    return AuditEntry.objects.all()


def _check_role(role: str) -> None:
    if role not in ROLE_ORDER:
        raise InvalidInput(role=_("Choose one of: %(roles)s.") % {"roles": ", ".join(ROLE_ORDER)})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may do at most, and from where."""

    role: str
    scopes: tuple[str, ...]
    addresses: tuple[Network, ...]


def _scopes(given: Sequence[str]) -> tuple[str, ...]:
    known = [verb.value for verb in Verb]
    if unknown := sorted(set(given) - set(known)):
        text = _("There is no scope “%(name)s”; choose among: %(names)s.")
        raise InvalidInput(scopes=text % {"name": unknown[0], "names": ", ".join(known)})
    return tuple(verb for verb in known if verb in given)


def _addresses(given: Sequence[str]) -> tuple[Network, ...]:
    if len(given) > MOST_ADDRESSES:
        raise InvalidInput(addresses=_("Give %(most)d address ranges at most.") % {"most": MOST_ADDRESSES})
    found = []
    for text in given:
        try:
            found.append(parsed_network(text))
        except ValueError:
            told = _("“%(text)s” is no address range; write one such as 10.1.0.0/16 or 2001:db8::/32.")
            raise InvalidInput(addresses=told % {"text": text[:50]}) from None
    return tuple(dict.fromkeys(found))


def _require_narrower(actor: Actor, wanted: Limits) -> None:
    if actor.scopes is not None and not (wanted.scopes and actor.scopes >= set(wanted.scopes)):
        raise PermissionRefused(_("A key cannot create a key with more scopes than its own."))
    own = [parsed_network(text) for text in actor.key_addresses]
    if own and not (wanted.addresses and all(_is_part(network, own) for network in wanted.addresses)):
        raise PermissionRefused(_("A key cannot create a key that is taken from more addresses than itself."))


def _is_part(network: Network, of: Sequence[Network]) -> bool:
    return any(network.version == whole.version and network.subnet_of(whole) for whole in of)  # type: ignore[arg-type]


def _is_above(role: str, cap: str | None) -> bool:
    return cap is not None and ROLE_ORDER.index(role) > ROLE_ORDER.index(cap)


def administers(actor: Actor) -> bool:
    """Whether the actor may manage the whole installation."""
    try:
        require_everywhere(actor, Verb.MANAGE)
    except PermissionRefused:
        return False
    return True


def _describe(key: ApiKey) -> dict[str, Any]:
    expiry = key.expiry.isoformat() if key.expiry else None
    limits = {"role": key.role, "scopes": key.scopes, "addresses": key.addresses}
    return {"name": key.name, "user": key.user.get_username(), "expiry": expiry} | limits
