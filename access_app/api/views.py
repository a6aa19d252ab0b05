"""What every API view is made of: strict input, one clock reading, an actor, JSON out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_filters import MultipleChoiceFilter
from rest_framework.exceptions import APIException, NotFound
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from access_app.actors import Actor, request_actor
from access_app.api.pagination import PARAMETERS, IdCursorPagination
from access_app.errors import InvalidInput

# How much of a body that is too large is read away, so that its sender reads our answer instead of a reset connection.
_DRAIN_BYTES = 64 * 1024 * 1024


class JsonAlways(BaseContentNegotiation):
    """Answers in JSON whatever the Accept header says; there is nothing else to choose from."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        kind = request.content_type.split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == kind), None)

    def select_renderer(self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None) -> Any:  # noqa: ARG002
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class ApiView(APIView):
    """Base of all. `query_parameters` lists what may stand in the query string, `many_valued` what may repeat there."""

    content_negotiation_class = JsonAlways
    metadata_class = None
    query_parameters: Sequence[str] = ()
    many_valued: Sequence[str] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.now: datetime = timezone.now()
        _refuse_unmeasured(request)
        _refuse_large(request)
        super().initial(request, *args, **kwargs)
        self._refuse_unknown_parameters(request)

    @cached_property
    def actor(self) -> Actor:
        """Who asks; a view lives for one request."""
        return request_actor(self.request)

    def read(self, serializer: type[BaseSerializer[Any]], **options: Any) -> dict[str, Any]:
        """The body as validated values; raises DRF's ValidationError."""
        reader = serializer(data=self.request.data, **options)
        reader.is_valid(raise_exception=True)
        return dict(reader.validated_data)

    def read_query(self, serializer: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """The query string as validated values."""
        reader = serializer(data={name: self.request.query_params[name] for name in self.request.query_params})
        reader.is_valid(raise_exception=True)
        return dict(reader.validated_data)

    def _refuse_unknown_parameters(self, request: Request) -> None:
        known = self.query_parameters if request.method in ("GET", "HEAD") else ()
        problems: dict[str, str | list[str]] = {}
        for name, values in request.query_params.lists():
            if name not in known:
                problems[name] = _("Unknown parameter.")
            elif len(values) > 1 and name not in self.many_valued:
                problems[name] = _("This parameter is given more than once.")
            elif any("\x00" in value for value in values):
                problems[name] = _("This must not contain a NUL character.")
        if problems:
            raise InvalidInput(**problems)


class ListView(ApiView):
    """A view whose GET answers a page of rows."""

    pagination_class = IdCursorPagination
    orderings: Sequence[str] = ("id",)
    default_ordering = "-id"
    filterset: Any = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        filters = {} if self.filterset is None else self.filterset.base_filters
        self.query_parameters = (*PARAMETERS, *filters)
        self.many_valued = [name for name, each in filters.items() if isinstance(each, MultipleChoiceFilter)]
        super().initial(request, *args, **kwargs)

    def page(self, rows: QuerySet[Any], render: Callable[[list[Any]], list[Any]]) -> Response:
        """The page of `rows` that the query string asks for, filtered by the view's filter set."""
        if self.filterset is not None:
            rows = filtered(self.filterset, self.request.query_params, rows)
        paginator = self.pagination_class()
        found = paginator.paginate_queryset(rows, self.request, self)
        return paginator.get_paginated_response(render(found))


def rendered_by(
    serializer: type[BaseSerializer[Any]], *, actor: Actor | None = None
) -> Callable[[Iterable[Any]], list[Any]]:
    """How `page` renders rows with a serializer; one that is GuardedSerializer asks what this actor may see."""
    return lambda rows: list(serializer(list(rows), many=True, context={"actor": actor}).data)


def filtered(filterset: Any, parameters: Mapping[str, Any], rows: QuerySet[Any]) -> QuerySet[Any]:
    """The rows that pass the filter set. Raises InvalidInput at the parameter that is wrong."""
    bound = filterset(parameters, queryset=rows)
    if not bound.is_valid():
        raise InvalidInput(**{name: [str(text) for text in texts] for name, texts in bound.errors.items()})
    found: QuerySet[Any] = bound.qs
    return found


class UnknownPath(ApiView):
    """Any path below /api/ that leads nowhere."""

    schema = None  # not part of the document

    def _refuse_unknown_parameters(self, request: Request) -> None:  # noqa: ARG002  (after authentication, as all else)
        raise NotFound


class LengthRequired(APIException):
    status_code = 411
    default_code = "length_required"
    default_detail = gettext_lazy("Send the body with a Content-Length, not in chunks.")


def _refuse_unmeasured(request: Request) -> None:
    """A body in chunks does not reach us through WSGI; it must not be taken for an empty one."""
    if request.META.get("HTTP_TRANSFER_ENCODING") and not request.META.get("CONTENT_LENGTH"):
        raise LengthRequired


def _refuse_large(request: Request) -> None:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    if length <= limit:
        return
    left = min(length, _DRAIN_BYTES)
    while left > 0 and (chunk := request._request.read(min(left, 65536))):
        left -= len(chunk)
    raise RequestDataTooBig
