"""API keys: a list, one more, one fewer."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import services
from access_app.api.fields import ChoiceField, InstantField, StrictSerializer, TextField
from access_app.api.views import ApiView, ListView, rendered_by
from access_app.errors import NotFound
from access_app.models import ApiKey
from access_app.roles import Role, Verb


class KeySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    user = serializers.CharField(source="user.username")
    role = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField(), help_text="Empty: all that the role may.")
    addresses = serializers.ListField(child=serializers.CharField(), help_text="Empty: from everywhere.")
    prefix = serializers.CharField(source="token_key", help_text="The first characters, to tell keys apart.")
    created_at = InstantField(source="created")
    expires_at = InstantField(source="expiry")
    last_used_at = InstantField()


class NewKeySerializer(KeySerializer):
    key = serializers.CharField(help_text="The key itself; it is shown this once.")


class KeyRequestSerializer(StrictSerializer):
    name = TextField(max_length=100)
    role = ChoiceField(choices=Role.choices, default=Role.VIEWER, help_text=_("What the key may do at most."))
    scopes = serializers.ListField(
        child=ChoiceField(choices=[verb.value for verb in Verb]),
        default=list,
        max_length=len(Verb),
        help_text=_("What of its role it may do; it may always look. Empty: all of it."),
    )
    addresses = serializers.ListField(
        child=TextField(max_length=50),
        default=list,
        max_length=services.MOST_ADDRESSES,
        help_text=_("Address ranges that it is taken from, such as 10.1.0.0/16. Empty: from everywhere."),
    )
    expires_at = InstantField(default=None, allow_null=True, help_text=_("None = until it is deleted."))


class KeysView(ListView):
    orderings = ("id",)

    @extend_schema(operation_id="auth_keys_list", responses=KeySerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Your API keys, newest first; an administrator sees those of all users."""
        rows: QuerySet[Any] = services.keys_visible_to(self.actor)
        return self.page(rows, rendered_by(KeySerializer))

    @extend_schema(operation_id="auth_keys_create", request=KeyRequestSerializer, responses={201: NewKeySerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create an API key for yourself. Its text is in this answer and nowhere else."""
        given = self.read(KeyRequestSerializer)
        actor = self.actor
        key, token = services.create_key(
            actor,
            actor.user,
            name=given["name"],
            role=given["role"],
            scopes=given["scopes"],
            addresses=given["addresses"],
            expiry=given["expires_at"],
            now=self.now,
        )
        return Response({**KeySerializer(key).data, "key": token}, status=201, headers={"Cache-Control": "no-store"})


class KeyView(ApiView):
    @extend_schema(operation_id="auth_keys_delete", responses={204: None})
    def delete(self, request: Request, key_id: int) -> Response:  # noqa: ARG002
        """Delete an API key; requests that carry it are refused from now on."""
        key: ApiKey | None = services.keys_visible_to(self.actor).filter(pk=key_id).first()
        if key is None:
            raise NotFound
        services.delete_key(self.actor, key, now=self.now)
        return Response(status=204)
