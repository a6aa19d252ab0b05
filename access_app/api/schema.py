"""What the OpenAPI document says of every view alike: how to authenticate, and how errors look."""

from __future__ import annotations

from typing import Any

import django_filters
from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from access_app.api.problems import CONTENT_TYPE

_TEXTS = {
    400: "Something in the request is not valid; `errors` names the fields.",
    401: "No valid API key, token or session was sent.",
    403: "The role does not allow this.",
    404: "There is no such object, or you may not see it.",
    412: "The object was changed since it was read.",
    413: "The body is larger than 10 MB.",
    415: "The body is not `application/json`.",
    429: "Too many requests; `Retry-After` says when to ask again.",
}


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457. Further members may follow, such as the `path` of a `dependency_cycle`."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField(help_text="Stable; made for programs.")

    def get_fields(self) -> dict[str, Any]:
        # `errors` is an attribute of every serializer already.
        texts = serializers.ListField(child=serializers.CharField())
        errors = serializers.DictField(child=texts, required=False, help_text="Texts for each field.")
        return {**super().get_fields(), "errors": errors}


class AskedSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="`approval_required`")
    detail = serializers.CharField()
    approval = serializers.IntegerField(help_text="Id of the request for approval.")
    state = serializers.CharField()
    url = serializers.CharField()
    expires_at = serializers.DateTimeField()


# What a rule of approval may hold: see second_person.
HELD_OPERATIONS = {
    "tasks_create",
    "tasks_change",
    "tasks_replace",
    "tasks_delete",
    "tasks_trigger",
    "tasks_trigger_batch",
    "tasks_backfill",
    "tasks_schedules_create",
    "schedules_change",
    "schedules_delete",
    "dependencies_create",
    "dependencies_change",
    "dependencies_delete",
    "runs_rerun",
    "runs_release",
    "secrets_create",
    "secrets_change",
    "secrets_delete",
    "approval_rules_create",
    "approval_rules_delete",
}


class ProblemAutoSchema(AutoSchema):
    """Adds what all views share: the problems that any operation of its kind may answer, and the filters of a list."""

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if self.get_operation_id() in HELD_OPERATIONS:
            asked = OpenApiResponse(AskedSerializer, "A rule asks for a second person: it is not done yet.")
            held = self._get_response_for_code(asked, "202", ["application/json"], direction)  # type: ignore[no-untyped-call]
            bodies.setdefault("202", held)
        for status in self._problem_statuses():
            problem = OpenApiResponse(ProblemSerializer, _TEXTS[status])
            answer = self._get_response_for_code(problem, str(status), [CONTENT_TYPE], direction)  # type: ignore[no-untyped-call]
            bodies.setdefault(str(status), answer)
        return bodies

    def _problem_statuses(self) -> list[int]:
        statuses = [400, 401]
        if getattr(self.view, "asks_for_role", True):
            statuses.append(403)
        if "{" in self.path:
            statuses.append(404)
        if self.method in ("POST", "PUT", "PATCH"):
            statuses += [413, 415]
        return [*statuses, 429]

    def _get_filter_parameters(self) -> list[dict[str, Any]]:
        filterset = getattr(self.view, "filterset", None)
        if filterset is None or self.method != "GET":
            return []
        return [_filter_parameter(name, filter_) for name, filter_ in filterset.base_filters.items()]


def _filter_parameter(name: str, filter_: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if isinstance(filter_, django_filters.MultipleChoiceFilter):
        schema = {"type": "array", "items": {"type": "string", "enum": _choices(filter_)}}
    elif isinstance(filter_, django_filters.ChoiceFilter):
        schema["enum"] = _choices(filter_)
    elif isinstance(filter_, django_filters.NumberFilter):
        schema["type"] = "integer"
    elif isinstance(filter_, django_filters.BooleanFilter):
        schema["type"] = "boolean"
    elif isinstance(filter_, django_filters.IsoDateTimeFilter):
        schema["format"] = "date-time"
    contains = " (contains)" if filter_.lookup_expr == "icontains" else ""
    text = f"{filter_.label}{contains}"
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _choices(filter_: Any) -> Any:
    return [str(value) for value, _label in filter_.extra["choices"]]


def problem_response(text: str) -> OpenApiResponse:
    """For `extend_schema(responses={(409, CONTENT_TYPE): problem_response("...")})`."""
    return OpenApiResponse(ProblemSerializer, text)


STALE = {(412, CONTENT_TYPE): problem_response(_TEXTS[412])}


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself, untyped
    target_class = "access_app.authentication.ApiKeyAuthentication"
    name = ["apiKey", "bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:  # noqa: ARG002
        return [
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "http", "scheme": "bearer", "bearerFormat": "dts_…"},
        ]


class JWTScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself, untyped
    target_class = "access_app.authentication.JWTAuthentication"
    name = "jwt"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class WorkerKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself, untyped
    target_class = "access_app.authentication.WorkerKeyAuthentication"
    name = "workerKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        return {"type": "http", "scheme": "bearer", "bearerFormat": "dts_worker_…"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself, untyped
    target_class = "access_app.authentication.ConsoleSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
