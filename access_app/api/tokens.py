"""JWT: sign in with a password, refresh, revoke."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import refusals, sign_in, tokens
from access_app.api.fields import StrictSerializer, TextField
from access_app.api.views import ApiView
from access_app.network import client_address


class PairSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="For `Authorization: Bearer`; good for ten minutes.")
    refresh = serializers.CharField(help_text="Good for one refresh, within seven days.")
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds that the access token is good for.")


class SignInSerializer(StrictSerializer):
    username = TextField(max_length=150)
    password = TextField(max_length=1000, trim_whitespace=False)


class RefreshSerializer(StrictSerializer):
    refresh = TextField(max_length=tokens.LONGEST)


class OpenView(ApiView):
    """What is asked for with a password or a refresh token instead of a key."""

    authentication_classes = ()
    permission_classes = ()
    asks_for_role = False

    @property
    def origin(self) -> dict[str, Any]:
        return {"address": client_address(self.request), "request_id": getattr(self.request, "request_id", "")}

    def refused(self, error: tokens.TokenRefused) -> tokens.TokenRefused:
        refusals.note(self.request, error.reason, now=self.now, subject="token", user=error.user)
        return error


class TokenView(OpenView):
    @extend_schema(operation_id="auth_token_create", request=SignInSerializer, responses=PairSerializer)
    def post(self, request: Request) -> Response:
        """Sign in with name and password, ten times a minute at most: an access token for ten minutes, and a
        refresh token for the next one."""
        given = self.read(SignInSerializer)
        user = sign_in.user_with(request._request, **given, now=self.now)
        return _answer(tokens.sign_in(user, now=self.now, **self.origin))


class TokenRefreshView(OpenView):
    @extend_schema(operation_id="auth_token_refresh", request=RefreshSerializer, responses=PairSerializer)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """A new pair for a refresh token. Each is good for one use: used twice, all tokens of its sign-in end."""
        try:
            return _answer(tokens.refreshed(self.read(RefreshSerializer)["refresh"], now=self.now))
        except tokens.TokenRefused as error:
            raise self.refused(error) from error


class TokenRevokeView(OpenView):
    @extend_schema(operation_id="auth_token_revoke", request=RefreshSerializer, responses={204: None})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Sign out: the refresh token and all others of its sign-in are refused from now on."""
        try:
            tokens.revoke(self.read(RefreshSerializer)["refresh"], now=self.now, **self.origin)
        except tokens.TokenRefused as error:
            raise self.refused(error) from error
        return Response(status=204)


def _answer(pair: tokens.Pair) -> Response:
    seconds = int(tokens.ACCESS_LIFE.total_seconds())
    content = {"access": pair.access, "refresh": pair.refresh, "token_type": "Bearer", "expires_in": seconds}
    return Response(content, headers={"Cache-Control": "no-store"})
