"""Admin pages of users and groups: they write through access_app.people, where nobody gives more than they hold."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_app import people
from access_app.actors import Actor
from access_app.admin import InstallationAdmin, ServiceAdmin
from access_app.admin_forms import ServiceForm
from access_app.errors import InvalidInput
from access_app.grants import grants
from access_app.roles import Role

PERMISSIONS_HELP = _(
    "What the administration pages offer at all; the role in each project says what of it may be done."
)

admin.site.unregister(User)
admin.site.unregister(Group)


class UserForm(ServiceForm):
    # Not by the name of the column, into which Django would put it as it was typed.
    new_password = forms.CharField(
        label=_("new password"),
        required=False,
        strip=False,
        max_length=people.LONGEST_PASSWORD,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("Empty: it stays as it is."),
    )

    class Meta:
        model = User
        fields = (*people.USER_FIELDS, *people.SETS)

    def changes(self) -> dict[str, Any]:
        given = super().changes()
        return {**given, "password": given.pop("new_password", "")}

    def write(self) -> User:
        try:
            if self.instance.pk is None:
                return people.create_user(self.actor, self.changes(), now=timezone.now())
            return people.update_user(self.actor, self.instance, self.changes(), now=timezone.now())
        except InvalidInput as error:
            names = {"password": "new_password"}
            raise InvalidInput(**{names.get(name, name): texts for name, texts in error.errors.items()}) from error

    def _save_m2m(self) -> None:
        """Nothing: the service has written the sets, too."""


class GroupForm(ServiceForm):
    members = forms.ModelMultipleChoiceField(
        label=_("members"), queryset=User.objects.order_by("username"), required=False
    )

    class Meta:
        model = Group
        fields = ("name", "permissions")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk is not None:
            self.fields["members"].initial = list(self.instance.user_set.all())

    def write(self) -> Group:
        if self.instance.pk is None:
            return people.create_group(self.actor, self.changes(), now=timezone.now())
        return people.update_group(self.actor, self.instance, self.changes(), now=timezone.now())

    def _save_m2m(self) -> None:
        """Nothing: the service has written the sets, too."""


class PeopleAdmin(InstallationAdmin, ServiceAdmin):
    """For administrators of the installation; roles are shown, and given on the console's pages of access."""

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.remote_field.model is Permission:
            options["queryset"] = Permission.objects.select_related("content_type")
            options["help_text"] = PERMISSIONS_HELP
        return super().formfield_for_manytomany(db_field, request, **options)

    @admin.display(description=_("roles"))
    def roles(self, obj: Any) -> str:
        from django.apps import apps

        given = grants(holders=[obj])
        projects = apps.get_model("tasks_app", "Project")._default_manager.in_bulk([one.project_id for one in given])
        return ", ".join(f"{projects.get(one.project_id)}: {Role(one.role).label}" for one in given) or "–"


@admin.register(User)
class UserAdmin(PeopleAdmin):
    """A user is put out rather than deleted: runs, keys and the audit trail name them."""

    form = UserForm
    list_display = ("username", "email", "is_active", "is_superuser", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_superuser", "is_staff", "groups")
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)
    filter_horizontal = ("groups", "user_permissions")
    readonly_fields = ("roles", "last_login", "date_joined")
    fields = (*people.USER_FIELDS, "new_password", *people.SETS, *readonly_fields)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Group)
class GroupAdmin(PeopleAdmin):
    form = GroupForm
    list_display = ("name",)
    search_fields = ("name",)
    ordering = ("name",)
    filter_horizontal = ("permissions",)
    readonly_fields = ("roles",)
    fields = ("name", "members", "permissions", "roles")

    def delete_row(self, actor: Actor, obj: Group) -> None:
        people.delete_group(actor, obj, now=timezone.now())
