"""Why is this run not running?"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.fields import InstantField
from access_app.api.views import ApiView
from dispatcher_app.explain import Explanation, explain
from tasks_app.api.lookups import find_run
from tasks_app.queries import runs_visible_to


class HolderSerializer(serializers.Serializer[Any]):
    run = serializers.IntegerField()
    task = serializers.CharField(help_text="Name of its task.")
    state = serializers.CharField()


class GateSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    open = serializers.BooleanField()
    detail = serializers.CharField()
    holders = HolderSerializer(many=True, help_text="Runs that you may see and that it waits for, ten at most.")
    estimate_at = InstantField(allow_null=True, help_text="When it is likely to open; null where nothing is known.")


class ExplanationSerializer(serializers.Serializer[Any]):
    state = serializers.CharField()
    closed = serializers.SerializerMethodField(help_text="Name of the first gate that is closed.")
    gates = GateSerializer(many=True)

    def get_closed(self, explanation: Explanation) -> str | None:
        closed = explanation.first_closed
        return None if closed is None else closed.name


class ExplainView(ApiView):
    @extend_schema(operation_id="runs_explain", responses=ExplanationSerializer)
    def get(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """Every gate of a run in one fixed order, open or closed, by the functions that release runs."""
        actor = self.actor
        explanation = explain(find_run(actor, run_id), self.now, visible=runs_visible_to(actor))
        return Response(ExplanationSerializer(explanation).data)
