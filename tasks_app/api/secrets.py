"""Secrets: list, create, look at, change, delete. No answer holds a value."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.views import ApiView, ListView, rendered_by
from access_app.models import Secret
from access_app.roles import require_membership
from tasks_app.api.lookups import DEFAULT_PROJECT, named_project
from tasks_app.api.secret_bodies import SecretBody, SecretEditBody, SecretSerializer
from tasks_app.errors import InvalidInput
from tasks_app.models import Task
from tasks_app.queries import get_visible, secrets_visible_to, tasks_visible_to
from tasks_app.services import secrets


class SecretsView(ListView):
    orderings = ("id", "name")
    default_ordering = "id"

    @extend_schema(operation_id="secrets_list", responses=SecretSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The secrets of your projects, without their values."""
        return self.page(secrets_visible_to(self.actor), rendered_by(SecretSerializer))

    @extend_schema(operation_id="secrets_create", request=SecretBody, responses={201: SecretSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a secret. For administrators of its project. Its value is never given back."""
        actor = self.actor
        require_membership(actor)
        given = self.read(SecretBody)
        fields = {**given, "project": named_project(actor, given.get("project", DEFAULT_PROJECT))}
        secret = secrets.create(actor, _with_tasks(self, fields), now=self.now)
        response = Response(SecretSerializer(secret).data, status=201)
        response["Location"] = f"/api/secrets/{secret.pk}"
        return response


class SecretView(ApiView):
    def _find(self, secret_id: int) -> Secret:
        return get_visible(secrets_visible_to(self.actor), secret_id)

    @extend_schema(operation_id="secrets_read", responses=SecretSerializer)
    def get(self, request: Request, secret_id: int) -> Response:  # noqa: ARG002
        """What is known of a secret: all but its value."""
        return Response(SecretSerializer(self._find(secret_id)).data)

    @extend_schema(operation_id="secrets_change", request=SecretEditBody, responses=SecretSerializer)
    def patch(self, request: Request, secret_id: int) -> Response:  # noqa: ARG002
        """Change value, description or the tasks that may use it. For administrators of its project. Runs that start
        from now on have the new value."""
        secret = self._find(secret_id)
        fields = _with_tasks(self, self.read(SecretEditBody))
        secret = secrets.update(self.actor, secret, fields, now=self.now)
        return Response(SecretSerializer(self._find(secret.pk)).data)

    @extend_schema(operation_id="secrets_delete", responses={204: None})
    def delete(self, request: Request, secret_id: int) -> Response:  # noqa: ARG002
        """Delete a secret, also one that tasks name: their runs fail from now on. For administrators of its project."""
        secrets.delete(self.actor, self._find(secret_id), now=self.now)
        return Response(status=204)


def _with_tasks(view: ApiView, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a secret with its tasks as objects. Raises InvalidInput at one that the actor does not see."""
    if fields.get("tasks") is None:
        return fields
    found: dict[int, Task] = tasks_visible_to(view.actor).in_bulk(fields["tasks"])
    for id in fields["tasks"]:
        if id not in found:
            raise InvalidInput(tasks=_("There is no task %(id)s.") % {"id": id})
    return {**fields, "tasks": list(found.values())}
