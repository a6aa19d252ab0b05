"""Who is turned away before anything is read: clients from outside the allowed address ranges."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import refusals
from access_app.api.problems import problem
from access_app.network import client_address, may_come_from

# The probe of whoever restarts this process: it says nothing, and comes from wherever the machine is watched.
_LIVENESS = re.compile(r"^/health(/live)?/?$")
_FOR_PROGRAMS = re.compile(r"^/(api|health|metrics)(/|$)")


class AddressMiddleware:
    """Answers 403 to every address outside `SCHEDULER_IP_ALLOW_LIST`, where there is one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        allowed = settings.SCHEDULER_IP_ALLOW_LIST
        if not allowed or may_come_from(client_address(request), allowed) or _LIVENESS.match(request.path):
            return self.get_response(request)
        refusals.note(request, "address_not_allowed", now=timezone.now())
        text = _("Requests from this address are not allowed here; ask an administrator of the installation.")
        if _FOR_PROGRAMS.match(request.path):
            return problem(403, "address_not_allowed", text)
        return HttpResponseForbidden(text, content_type="text/plain; charset=utf-8")


class PermissionsPolicyMiddleware:
    """Tells browsers that no page of ours, nor one inside it, needs what their devices can do."""

    POLICY = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Permissions-Policy", self.POLICY)
        return response
