"""Users: a list, one more, changes, and the link with which one sets a password."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import invitations, people
from access_app.api.fields import BooleanField, InstantField, StrictSerializer, TextField
from access_app.api.views import ApiView, ListView, rendered_by
from access_app.errors import NotFound
from access_app.filters import UserFilter
from access_app.roles import Verb, require_everywhere

MOST_GROUPS = 200


class UserSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField()
    first_name = serializers.CharField()
    last_name = serializers.CharField()
    active = serializers.BooleanField(source="is_active")
    administrator = serializers.BooleanField(source="is_superuser", help_text="Of the whole installation.")
    staff = serializers.BooleanField(source="is_staff", help_text="May open /admin/.")
    has_password = serializers.SerializerMethodField()
    groups = serializers.SerializerMethodField()
    created_at = InstantField(source="date_joined")
    last_sign_in_at = InstantField(source="last_login", allow_null=True)

    def get_has_password(self, user: User) -> bool:
        return user.has_usable_password()

    def get_groups(self, user: User) -> list[str]:
        return sorted(group.name for group in user.groups.all())


class UserBody(StrictSerializer):
    username = TextField(max_length=150)
    email = serializers.EmailField(max_length=254, allow_blank=True, required=False)
    first_name = TextField(max_length=150, allow_blank=True, required=False)
    last_name = TextField(max_length=150, allow_blank=True, required=False)
    active = BooleanField(source="is_active", required=False)
    administrator = BooleanField(source="is_superuser", required=False)
    staff = BooleanField(source="is_staff", required=False)
    groups = serializers.ListField(child=TextField(max_length=150), max_length=MOST_GROUPS, required=False)
    password = TextField(
        max_length=people.LONGEST_PASSWORD,
        required=False,
        trim_whitespace=False,
        write_only=True,
        help_text=_("Without one, an invitation lets the person set it."),
    )


class InvitationSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(help_text="Good once, for three days; whoever has it can set the password.")


class UsersView(ListView):
    filterset = UserFilter
    orderings = ("id", "username")
    default_ordering = "id"

    @extend_schema(operation_id="users_list", responses=UserSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """All users. Administrators of the installation only."""
        require_everywhere(self.actor, Verb.MANAGE)
        return self.page(people.users_visible_to(self.actor), rendered_by(UserSerializer))

    @extend_schema(operation_id="users_create", request=UserBody, responses={201: UserSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a user. Administrators of the installation only."""
        require_everywhere(self.actor, Verb.MANAGE)
        user = people.create_user(self.actor, _with_groups(self.read(UserBody)), now=self.now)
        return Response(UserSerializer(user).data, status=201, headers={"Location": f"/api/users/{user.pk}"})


class UserView(ApiView):
    @extend_schema(operation_id="users_read", responses=UserSerializer)
    def get(self, request: Request, user_id: int) -> Response:  # noqa: ARG002
        """One user."""
        return Response(UserSerializer(self._found(user_id)).data)

    @extend_schema(operation_id="users_change", request=UserBody, responses=UserSerializer)
    def patch(self, request: Request, user_id: int) -> Response:  # noqa: ARG002
        """Change a user. One that is not active any more is signed out everywhere, and every key of theirs refused."""
        user = self._found(user_id)
        user = people.update_user(self.actor, user, _with_groups(self.read(UserBody, partial=True)), now=self.now)
        return Response(UserSerializer(user).data)

    def _found(self, user_id: int) -> User:
        return _found(self, user_id)


class InvitationView(ApiView):
    @extend_schema(operation_id="users_invite", request=None, responses={201: InvitationSerializer})
    def post(self, request: Request, user_id: int) -> Response:
        """A link with which the user sets a password. It stands in this answer and nowhere else."""
        path = invitations.invite(self.actor, _found(self, user_id), now=self.now)
        shown = {"url": request.build_absolute_uri(path)}
        return Response(shown, status=201, headers={"Cache-Control": "no-store"})


def _found(view: ApiView, user_id: int) -> User:
    users = people.users_visible_to(view.actor)
    user = users.filter(pk=user_id).first() if user_id < 2**31 else None
    if user is None:
        raise NotFound
    return user


def _with_groups(fields: dict[str, Any]) -> dict[str, Any]:
    if "groups" in fields:
        fields["groups"] = [people.find_named_group(name, "groups") for name in fields["groups"]]
    return fields
