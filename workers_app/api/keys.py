"""Worker keys: a list, one more, one revoked."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import worker_keys
from access_app.api.fields import InstantField, StrictSerializer, TextField
from access_app.api.views import ApiView, ListView, rendered_by
from access_app.errors import NotFound
from access_app.roles import Verb, require_everywhere
from workers_app.worker_keys import pools_named


class WorkerKeySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The first characters, to tell keys apart.")
    pools = serializers.ListField(source="pool_names", child=serializers.CharField())
    created_at = InstantField()
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    last_used_at = InstantField(allow_null=True)
    revoked_at = InstantField(allow_null=True)


class NewWorkerKeySerializer(WorkerKeySerializer):
    key = serializers.CharField(help_text="The key itself; it is shown this once.")


class WorkerKeyBody(StrictSerializer):
    name = TextField(max_length=100, help_text=_("What machine or group of machines it is for."))
    pools = serializers.ListField(
        child=TextField(max_length=50), max_length=200, help_text=_("The pools whose runs its workers may take.")
    )


class WorkerKeysView(ListView):
    orderings = ("id",)

    @extend_schema(operation_id="worker_keys_list", responses=WorkerKeySerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """All worker keys, newest first, revoked ones too. For administrators of the installation."""
        require_everywhere(self.actor, Verb.MANAGE_WORKERS)
        return self.page(worker_keys.keys_visible_to(self.actor), rendered_by(WorkerKeySerializer))

    @extend_schema(operation_id="worker_keys_create", request=WorkerKeyBody, responses={201: NewWorkerKeySerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a worker key. Its text is in this answer and nowhere else."""
        actor = self.actor
        # Before the body is judged: what pools there are is not for everybody to try out.
        require_everywhere(actor, Verb.MANAGE_WORKERS)
        given = self.read(WorkerKeyBody)
        key, token = worker_keys.create(actor, name=given["name"], pools=pools_named(given["pools"]), now=self.now)
        shown = {**WorkerKeySerializer(key).data, "key": token}
        return Response(shown, status=201, headers={"Cache-Control": "no-store"})


class WorkerKeyView(ApiView):
    @extend_schema(operation_id="worker_keys_revoke", responses={204: None})
    def delete(self, request: Request, worker_key_id: int) -> Response:  # noqa: ARG002
        """Revoke a worker key: calls with it are refused from now on, and what its workers run is given away."""
        key = worker_keys.keys_visible_to(self.actor).filter(pk=worker_key_id).first()
        if key is None:
            raise NotFound
        worker_keys.revoke(self.actor, key, now=self.now)
        return Response(status=204)
