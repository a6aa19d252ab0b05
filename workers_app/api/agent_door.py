"""Who may call the addresses of agents, and how an agent registers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request

from access_app.authentication import ApiKeyAuthentication, ConsoleSessionAuthentication, WorkerKeyAuthentication
from access_app.models import WorkerKey
from workers_app import agents

# Other keys too: whoever comes with one of those is to be told what is wrong with it.
ANY_KEY = (WorkerKeyAuthentication, ApiKeyAuthentication, ConsoleSessionAuthentication)


class ForAgents(BasePermission):
    """Worker keys alone."""

    message = _("This address is for agents: send a worker key.")

    def has_permission(self, request: Request, view: Any) -> bool:  # noqa: ARG002  (DRF's signature)
        return isinstance(request.auth, WorkerKey)


class AgentsWrite(ForAgents):
    """POST is for worker keys, all else for people and their keys."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method == "POST":
            return super().has_permission(request, view)
        return not super().has_permission(request, view) and IsAuthenticated().has_permission(request, view)


def register(key: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The answer to an agent that has started."""
    worker = agents.register(key, agents.Wish(**given))
    shown = {"id": str(worker.pk), "name": worker.name, "pool": worker.pool.name, "state": str(worker.state)}
    return {**shown, **asdict(agents.pace())}
