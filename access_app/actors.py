"""Who asks: a user, a program with an API key, or the system itself. Every service call takes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from access_app.models import ApiKey
from access_app.network import client_address


@dataclass
class Actor:
    """One asker, for the length of a request or command.

    `role_cap` and `scopes` limit what a key may do (scopes None: all that the role may), `key_expiry` is its end (None:
    it has none), `key_addresses` are the ranges that it is taken from (empty: everywhere). `roles` remembers the roles
    looked up so far, by project id, and `projects` the ids of the projects in which a verb is held, by verb.
    """

    name: str
    user: Any = None
    role_cap: str | None = None
    scopes: frozenset[str] | None = None
    key_expiry: datetime | None = None
    key_addresses: tuple[str, ...] = ()
    address: str | None = None
    request_id: str = ""
    key_id: int | None = None
    # Set where a rule of approval is met already; see second_person.
    let_through: bool = False
    # What is told to the audit trail is told here, too.
    trail: list[Any] | None = None
    roles: dict[int, str | None] = field(default_factory=dict)
    projects: dict[str, list[int] | None] = field(default_factory=dict)

    @property
    def is_system(self) -> bool:
        return self.user is None


def system_actor(name: str = "system") -> Actor:
    """The scheduler itself: dispatchers, workers and `manage.py` commands of whoever has a shell here."""
    return Actor(name=name)


def user_actor(user: Any, *, address: str | None = None, request_id: str = "") -> Actor:
    return Actor(name=f"user {user.get_username()}", user=user, address=address, request_id=request_id)


def request_actor(request: Any) -> Actor:
    """The actor of a Django or DRF request that has passed authentication."""
    address = client_address(request)
    request_id = getattr(request, "request_id", "")
    key = getattr(request, "auth", None)
    if isinstance(key, ApiKey):
        name = f"key {key.name} of {request.user.get_username()}"
        return Actor(
            name,
            request.user,
            key.role,
            frozenset(key.scopes) or None,
            key.expiry,
            tuple(key.addresses),
            address=address,
            request_id=request_id,
            key_id=key.pk,
        )
    return user_actor(request.user, address=address, request_id=request_id)
