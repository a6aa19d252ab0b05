"""The rate limits of the API: who is counted, in which class of addresses, and what the answer says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from access_app import rates
from access_app.errors import TooMany
from access_app.models import ApiKey, WorkerKey
from access_app.runtime_settings import COSTLY_REQUESTS, REQUESTS

_STANDING = "scheduler.rate_standing"
_CLASSES = {"requests": REQUESTS, "costly": COSTLY_REQUESTS}


class PrincipalThrottle(BaseThrottle):
    """Counts each request of a key, or of a user without one, in the class of its view (`rate_class`)."""

    def allow_request(self, request: Request, view: Any) -> bool:
        who = _principal(request)
        if who is None:
            return True
        rates.refresh_settings()
        costly = getattr(view, "rate_class", "requests") if request.method != "HEAD" else "requests"
        limit = _CLASSES[costly].value
        if limit:
            standing = rates.take(costly, who, limit, now=timezone.now())
            request.META[_STANDING] = standing
            if not standing.allowed:
                text = _("More than %(limit)d requests in a minute; wait for the seconds that Retry-After says.")
                raise TooMany(text % {"limit": limit}, code="rate_limited", retry_after=standing.seconds)
        return True


class RateHeadersMiddleware:
    """Says in `RateLimit-*` where whoever asked stands."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        standing: rates.Standing | None = request.META.get(_STANDING)
        if standing is not None:
            response["RateLimit-Limit"] = str(standing.limit)
            response["RateLimit-Remaining"] = str(standing.remaining)
            response["RateLimit-Reset"] = str(standing.seconds)
            response["RateLimit-Policy"] = f"{standing.limit};w={rates.SECONDS}"
        return response


def _principal(request: Request) -> str | None:
    """Who is counted. Agents are not: many machines have one key, and the scheduler itself sets their pace."""
    if isinstance(request.auth, WorkerKey) or request.user is None:
        return None
    return f"key {request.auth.pk}" if isinstance(request.auth, ApiKey) else f"user {request.user.pk}"
