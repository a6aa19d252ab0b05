"""Who is asking over HTTP: a program with an API key or a JWT, an agent with a worker key, or a person with the
console's session."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from knox.crypto import hash_token
from knox.settings import knox_settings
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from access_app import refusals, tokens, worker_keys
from access_app.models import ApiKey, TokenFamily, WorkerKey
from access_app.network import client_address, key_may_come_from

# A key in steady use costs one write in this time, not one a request.
LAST_USED_STEP = timedelta(minutes=1)
LONGEST_KEY = 200

log = structlog.get_logger(__name__)


class ApiKeyAuthentication(BaseAuthentication):
    """`X-API-Key: dts_...` or `Authorization: Bearer dts_...`; never in a query string, where logs would keep it."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        token = _token_of(request)
        if token is None or _jwt_of(request) is not None:
            return None
        key = _find(token)
        now = timezone.now()
        reason = "unknown_key" if key is None else _fault_of(key, client_address(request), now)
        if key is None or reason is not None:
            known = {} if key is None else {"user": key.user, "name": str(key)}
            refusals.note(request, reason or "", now=now, subject="apikey", **known)
            # One answer for every reason: it must not tell which keys exist.
            raise AuthenticationFailed(_("The API key is not valid."), "invalid_key")
        _touch(key, now)
        return key.user, key

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002  (DRF's signature)
        return 'Bearer realm="scheduler"'


class JWTAuthentication(BaseAuthentication):
    """`Authorization: Bearer JWT`, with an access token of ours."""

    def authenticate(self, request: Request) -> tuple[Any, TokenFamily] | None:
        token = _jwt_of(request)
        if token is None:
            return None
        now = timezone.now()
        try:
            family = tokens.user_of(token, now=now)
        except tokens.TokenRefused as error:
            refusals.note(request, error.reason, now=now, subject="token", user=error.user)
            raise AuthenticationFailed(str(error.message), error.code) from error
        return family.user, family

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002  (DRF's signature)
        return 'Bearer realm="scheduler"'


class AgentPrincipal:
    """Who asks with a worker key: no user, and so without a role anywhere."""

    is_authenticated = is_active = True
    is_anonymous = is_superuser = is_staff = False
    pk = None

    def __init__(self, key: WorkerKey) -> None:
        self._name = key.name

    def get_username(self) -> str:
        return f"worker key {self._name}"


class WorkerKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer dts_worker_...` or `X-API-Key: dts_worker_...`, for the addresses of agents alone."""

    def authenticate(self, request: Request) -> tuple[Any, WorkerKey] | None:
        token = _token_of(request)
        if token is None or not token.startswith(worker_keys.PREFIX):
            return None
        key = worker_keys.find(token)
        if key is None:
            refusals.note(request, "unknown_or_revoked_key", now=timezone.now(), subject="workerkey")
            raise AuthenticationFailed(_("The worker key is not valid, or was revoked."), "invalid_key")
        _touch(key, timezone.now())
        return AgentPrincipal(key), key

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002  (DRF's signature)
        return 'Bearer realm="scheduler workers"'


class ConsoleSessionAuthentication(SessionAuthentication):
    """The session of somebody signed in at the console; writes need the CSRF token."""


def _token_of(request: Request) -> str | None:
    given: str = request.META.get("HTTP_X_API_KEY", "")
    return given.strip() or _bearer_of(request)


def _jwt_of(request: Request) -> str | None:
    token = None if request.META.get("HTTP_X_API_KEY") else _bearer_of(request)
    if token is None or token.count(".") != 2 or token.startswith(knox_settings.TOKEN_PREFIX):
        return None
    return token


def _bearer_of(request: Request) -> str | None:
    scheme, _space, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _fault_of(key: ApiKey, address: str | None, now: datetime) -> str | None:
    if key.expiry is not None and key.expiry <= now:
        return "expired_key"
    if not key_may_come_from(address, key.addresses):
        return "address_not_on_the_list_of_the_key"
    return None if key.user.is_active else "inactive_user"


def _find(token: str) -> ApiKey | None:
    if not token.startswith(knox_settings.TOKEN_PREFIX) or len(token) > LONGEST_KEY or not token.isascii():
        return None
    found: ApiKey | None = ApiKey.objects.select_related("user").filter(digest=hash_token(token)).first()
    return found


def _touch(key: ApiKey | WorkerKey, now: Any) -> None:
    limit = now - LAST_USED_STEP
    if key.last_used_at is not None and key.last_used_at > limit:
        return
    stale = type(key)._default_manager.filter(Q(last_used_at=None) | Q(last_used_at__lte=limit), pk=key.pk)
    try:
        stale.update(last_used_at=now)
    except DatabaseError:
        log.warning("The last use of a key could not be noted", key=key.pk, exc_info=True)
