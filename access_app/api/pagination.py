"""Lists in pages: `results, next, previous`; a page is found by the row that it follows, never by counting."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import Model, Q
from django.utils.translation import gettext as _
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from access_app.errors import InvalidInput

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
PARAMETERS = ("limit", "cursor", "ordering")


class IdCursorPagination(BasePagination):
    """Pages by `(ordering field, id)`.

    The view names `orderings`, the columns (never null) by which it may be sorted, and `default_ordering`, one of them
    with `-` for descending. Rows that come or go between two requests neither repeat nor hide others.
    """

    next_link: str | None = None
    previous_link: str | None = None

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        limit = _limit(request)
        ordering = _ordering(request, view)
        cursor = _Cursor.read(request, ordering, queryset.model)
        backwards = cursor is not None and cursor.backwards
        field, descending = ordering.lstrip("-"), ordering.startswith("-") != backwards
        if cursor is not None:
            queryset = queryset.filter(_beyond(field, descending, cursor))
        names = [field] if field == "id" else [field, "id"]
        rows = list(queryset.order_by(*(f"-{name}" if descending else name for name in names))[: limit + 1])
        more = len(rows) > limit
        rows = rows[:limit]
        if backwards:
            rows.reverse()
        before = more if backwards else cursor is not None
        self._link(request, ordering, rows, has_next=more or backwards, has_previous=before)
        return rows

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.next_link, "previous": self.previous_link})

    def _link(
        self, request: Request, ordering: str, rows: Sequence[Any], *, has_next: bool, has_previous: bool
    ) -> None:
        url = request.build_absolute_uri()
        if not rows:
            return
        if has_next:
            self.next_link = replace_query_param(url, "cursor", _Cursor.of(rows[-1], ordering, backwards=False))
        if has_previous:
            self.previous_link = replace_query_param(url, "cursor", _Cursor.of(rows[0], ordering, backwards=True))

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "nullable": True, "format": "uri"}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {"results": schema, "next": link, "previous": link},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        orderings = [sign + name for name in view.orderings for sign in ("", "-")]
        limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
        order = {"type": "string", "enum": orderings, "default": view.default_ordering}
        return [
            {"name": "limit", "in": "query", "required": False, "schema": limit, "description": "Rows in a page."},
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "schema": {"type": "string"},
                "description": "Where the page begins; take it from `next` or `previous`.",
            },
            {"name": "ordering", "in": "query", "required": False, "schema": order, "description": "Sort order."},
        ]


class _Cursor:
    """The place of one row in an order: its value in that order and its id."""

    def __init__(self, value: Any, id: Any, *, backwards: bool) -> None:
        self.value, self.id, self.backwards = value, id, backwards

    @staticmethod
    def of(row: Any, ordering: str, *, backwards: bool) -> str:
        value = getattr(row, ordering.lstrip("-"))
        shown = value.isoformat() if isinstance(value, datetime) else value
        text = json.dumps([ordering, shown, row.pk, backwards], default=str)
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, request: Request, ordering: str, model: type[Model]) -> _Cursor | None:
        text = request.query_params.get("cursor")
        if not text:
            return None
        try:
            made_for, value, id, backwards = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if made_for != ordering:
                raise InvalidInput(cursor=_("This cursor belongs to another ordering; begin without it."))
            fields = model._meta
            value = _fitting(fields.get_field(ordering.lstrip("-")), value)
            return cls(value, _fitting(fields.pk, id), backwards=bool(backwards))
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(cursor=_("This is not a cursor of this list.")) from error


def _fitting(field: Any, value: Any) -> Any:
    """The value as the column takes it; raises some exception when it does not."""
    if value is None or isinstance(value, float | list | dict | bool):
        raise TypeError
    value = field.to_python(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        raise TypeError
    if isinstance(value, int) and not -(2**31) < value < 2**63:
        raise OverflowError
    if isinstance(value, str) and "\x00" in value:
        raise TypeError
    return value


def _beyond(field: str, descending: bool, cursor: _Cursor) -> Q:
    side = "lt" if descending else "gt"
    if field == "id":
        return Q(**{f"pk__{side}": cursor.id})
    return Q(**{f"{field}__{side}": cursor.value}) | Q(**{field: cursor.value, f"pk__{side}": cursor.id})


def _limit(request: Request) -> int:
    text = request.query_params.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(limit=_("Give a whole number from 1 to %(n)d.") % {"n": MAX_LIMIT})
    return limit


def _ordering(request: Request, view: Any) -> str:
    ordering: str = request.query_params.get("ordering") or view.default_ordering
    if ordering.removeprefix("-") not in view.orderings:
        choices = ", ".join(f"{name}, -{name}" for name in view.orderings)
        raise InvalidInput(ordering=_("Choose one of: %(choices)s.") % {"choices": choices})
    return ordering
