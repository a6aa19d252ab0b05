"""The installation as a whole: its numbers and its make; and the documents about this API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.fields import InstantField
from access_app.api.views import ApiView
from monitoring_app.stats import system_info, system_stats

_DELAYS: dict[str, serializers.Field[Any, Any, Any, Any]] = {
    "p50": serializers.FloatField(allow_null=True),
    "p99": serializers.FloatField(allow_null=True),
}
# Swagger UI sets style attributes; its own scripts come from this host like everything else.
_DOCS_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class StatsView(ApiView):
    asks_for_role = False

    @extend_schema(
        operation_id="system_stats",
        responses=inline_serializer(
            "SystemStats",
            {
                "runs": serializers.DictField(child=serializers.IntegerField(), help_text="Runs in each state."),
                "throughput_per_minute": serializers.FloatField(help_text="Runs ended, over the last five minutes."),
                "dispatch_delay_ms": inline_serializer("DispatchDelay", _DELAYS),
                "workers": serializers.DictField(child=serializers.IntegerField()),
                "pools": serializers.DictField(
                    child=inline_serializer(
                        "PoolLoad",
                        {
                            "slots": serializers.IntegerField(allow_null=True),
                            "queued": serializers.IntegerField(),
                            "running": serializers.IntegerField(),
                            "oldest_queued_seconds": serializers.FloatField(),
                        },
                    )
                ),
            },
        ),
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Counts for each state, throughput, delays and queue ages, of the runs that you may see."""
        return Response(system_stats(self.actor))


class InfoView(ApiView):
    asks_for_role = False

    @extend_schema(
        operation_id="system_info",
        responses=inline_serializer(
            "SystemInfo",
            {
                "version": serializers.CharField(),
                "python": serializers.CharField(),
                "database": serializers.CharField(),
                "broker": serializers.CharField(),
                "environment": serializers.CharField(),
                "time_zone": serializers.CharField(),
                "time": InstantField(),
            },
        ),
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Which version this is and what it runs on."""
        return Response(system_info(self.now))


class SchemaView(SpectacularAPIView):
    """The OpenAPI 3 document of this API, as YAML or, with `?format=json`, as JSON."""

    rate_class = "costly"


class DocsView(SpectacularSwaggerSplitView):
    """The same document to read and try out; everything it loads comes from this host."""

    url = "/api/schema"

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        final["Content-Security-Policy"] = _DOCS_CSP
        return final
