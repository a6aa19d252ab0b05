"""The audit trail, for administrators."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import services
from access_app.api.fields import InstantField
from access_app.api.views import ListView, rendered_by
from access_app.filters import AuditFilter


class AuditEntrySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    at = InstantField()
    actor = serializers.CharField()
    verb = serializers.CharField()
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    object_name = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)
    address = serializers.CharField(allow_null=True)
    request_id = serializers.CharField()


class AuditView(ListView):
    filterset = AuditFilter

    @extend_schema(operation_id="audit_list", responses=AuditEntrySerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Who did what to which object, newest first. Administrators of the installation only."""
        rows = services.audit_entries_visible_to(self.actor)
        return self.page(rows, rendered_by(AuditEntrySerializer))
