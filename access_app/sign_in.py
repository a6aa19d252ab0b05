"""Signing in with name and password, for every door that takes one: so often and no more, and locked after failures."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import authenticate, get_user_model
from django.db import transaction
from django.db.models import Max, Sum
from django.utils.translation import ngettext

from access_app import audit, rates, refusals
from access_app.actors import Actor
from access_app.errors import NotFound, SignInRefused, TooMany
from access_app.network import client_address, neighbourhood
from access_app.roles import Verb, require_everywhere
from access_app.runtime_settings import SIGN_INS

# People behind one address are many, and so may be those who guess from it.
ADDRESS_TIMES = 10


class LockOutBackend(AxesStandaloneBackend):
    """The second net: whatever asks Django for a user over the web is refused where it is locked out."""

    def authenticate(
        self, request: Any, username: str | None = None, password: str | None = None, **credentials: Any
    ) -> None:
        if request is not None:
            super().authenticate(request, username, password, **credentials)


def user_with(request: Any, *, username: str, password: str, now: datetime) -> Any:
    """The active user of that name and password.

    Raises SignInRefused; TooMany with the seconds to wait where the user has failed too often from this address, or
    tries too often. `request` is Django's.
    """
    address = client_address(request)
    _refuse_locked(request, username, address, now)
    _count(username, address, now)
    user = authenticate(request, username=username, password=password)
    if user is not None:
        AccessAttempt.objects.filter(username=username, ip_address=address).delete()
        return user
    refusals.note(request, "wrong_password", now=now, subject="sign-in", name=username)
    _refuse_locked(request, username, address, now)
    raise SignInRefused


def release(actor: Actor, username: str, *, address: str | None = None, now: datetime) -> int:
    """Forget the failures of the user, from that address or from all: who was locked out may sign in again.

    Returns how many rows that were. Raises PermissionRefused for all but administrators of the installation, NotFound
    where there are none.
    """
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        rows = AccessAttempt.objects.filter(username=username)
        if address is not None:
            rows = rows.filter(ip_address=address)
        forgotten: int = rows.delete()[0]
        if not forgotten:
            raise NotFound
        user = get_user_model().objects.filter(username=username).first()
        if user is not None:
            audit.append(actor, "release_sign_in", user, now=now, after={"address": address or "all"})
    return forgotten


def _refuse_locked(request: Any, username: str, address: str | None, now: datetime) -> None:
    since = now - settings.AXES_COOLOFF_TIME
    rows = AccessAttempt.objects.filter(username=username, ip_address=address, attempt_time__gte=since)
    found = rows.aggregate(failures=Sum("failures_since_start"), last=Max("attempt_time"))
    if (found["failures"] or 0) < settings.AXES_FAILURE_LIMIT:
        return
    refusals.note(request, "locked_out", now=now, subject="sign-in", name=username)
    raise _wait("locked_out", found["last"] + settings.AXES_COOLOFF_TIME - now)


def _count(username: str, address: str | None, now: datetime) -> None:
    rates.refresh_settings()
    place, limit = neighbourhood(address), SIGN_INS.value
    for kind, who, most in (
        ("sign-ins from", place, limit * ADDRESS_TIMES),
        ("sign-ins of", f"{place} {username}", limit),
    ):
        standing = rates.take(kind, who, most, now=now)
        if not standing.allowed:
            raise _wait("rate_limited", timedelta(seconds=standing.seconds))


def _wait(code: str, left: timedelta) -> TooMany:
    seconds = max(1, int(left.total_seconds()))
    minutes = -(-seconds // 60)
    text = ngettext(
        "Too many attempts to sign in; try again in %(n)d minute, or ask an administrator to release it.",
        "Too many attempts to sign in; try again in %(n)d minutes, or ask an administrator to release it.",
        minutes,
    )
    return TooMany(text % {"n": minutes}, code=code, retry_after=seconds)
