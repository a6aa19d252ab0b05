"""Errors as RFC 9457 problems: `application/problem+json` with a stable code, whatever goes wrong in an API view."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpResponseBase, JsonResponse
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.views import set_rollback

from access_app import approvals
from access_app.api.fields import instant
from access_app.errors import InvalidInput, SchedulerError, TooMany
from access_app.outages import is_outage
from access_app.second_person import ApprovalRequired

CONTENT_TYPE = "application/problem+json"
log = structlog.get_logger(__name__)


def problem(status: int, code: str, detail: str, /, **members: Any) -> JsonResponse:
    """A problem response. `members` are added to it, such as `errors` or the `path` of a cycle."""
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return JsonResponse({**members, **content}, status=status, content_type=CONTENT_TYPE)


def problem_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponseBase:
    """DRF's EXCEPTION_HANDLER: every exception of an API view becomes a problem; one that nobody expected is logged."""
    set_rollback()
    if isinstance(error, InvalidInput):
        return _invalid(error.errors)
    if isinstance(error, ApprovalRequired):
        return _asked(error)
    if isinstance(error, SchedulerError):
        response = problem(error.status, error.code, str(error.message), **error.details)
        if error.status == 401:
            response["WWW-Authenticate"] = 'Bearer realm="scheduler"'
        if isinstance(error, TooMany):
            response["Retry-After"] = str(error.retry_after)
        return response
    if isinstance(error, exceptions.APIException):
        return _of_drf(error)
    if isinstance(error, RequestDataTooBig):
        return problem(413, "too_large", _("The body is larger than 10 MB."))
    if isinstance(error, SuspiciousOperation):
        return problem(400, "bad_request", _("The request is malformed."))
    if isinstance(error, Http404):
        return problem(404, "not_found", _("There is no such object, or you may not see it."))
    if isinstance(error, PermissionDenied):
        return problem(403, "permission_denied", _("You may not do this."))
    return _unexpected(error, context)


def _asked(error: ApprovalRequired) -> HttpResponseBase:
    """202: nothing is done yet; where it can be decided stands in the answer."""
    request = approvals.ask(error)
    address = f"/api/approvals/{request.pk}"
    told = {"code": error.code, "detail": str(error.message), "approval": request.pk, "state": "pending"}
    return JsonResponse({**told, "url": address, "expires_at": instant(request.expires_at)}, status=error.status)


def _of_drf(error: exceptions.APIException) -> HttpResponseBase:
    if isinstance(error, exceptions.ValidationError):
        return _invalid(flat(error.detail))
    if isinstance(error, exceptions.NotFound):
        return problem(404, "not_found", _("There is no such object, or you may not see it."))
    codes = error.get_codes()
    response = problem(error.status_code, codes if isinstance(codes, str) else error.default_code, str(error.detail))
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    return response


def _invalid(errors: Mapping[str, list[str]]) -> HttpResponseBase:
    return problem(400, "invalid", _("Some fields are not valid; see `errors`."), errors=errors)


def flat(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """DRF's nested error detail as {"field.sub": [texts]}; what concerns the whole body stands under `body`."""
    found: dict[str, list[str]] = {}
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            whole = name == "non_field_errors"
            path = prefix if whole else f"{prefix}.{name}" if prefix else str(name)
            found |= flat(inner, path)
    elif isinstance(detail, list) and any(isinstance(item, Mapping) for item in detail):
        for place, inner in enumerate(detail):
            found |= flat(inner, f"{prefix}[{place}]")
    elif isinstance(detail, list):
        found[prefix or "body"] = [str(text) for text in detail]
    else:
        found[prefix or "body"] = [str(detail)]
    return {name: texts for name, texts in found.items() if texts}


def _unexpected(error: Exception, context: Mapping[str, Any]) -> HttpResponseBase:
    request = context.get("request")
    request_id = getattr(request, "request_id", "")
    where = {"path": getattr(request, "path", ""), "method": getattr(request, "method", "")}
    if is_outage(error):
        log.error("The database did not answer an API request", **where, exc_info=error)
        text = _("The database does not answer at the moment; try again.")
        response = problem(503, "database_unavailable", text, request_id=request_id)
        response["Retry-After"] = "5"
        return response
    log.error("An API request failed", **where, exc_info=error)
    text = _("Something went wrong on our side; quote the request id when you report it.")
    return problem(500, "internal", text, request_id=request_id)
