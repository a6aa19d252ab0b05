"""The admin page of secrets: a value goes in and is never shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_app.actors import Actor
from access_app.admin import ServiceAdmin, actor_of
from access_app.admin_forms import ServiceForm
from access_app.models import Secret
from access_app.roles import Verb
from access_app.write_only import WriteOnlyField
from tasks_app import queries
from tasks_app.services import secrets


class SecretForm(ServiceForm):
    """A secret; project and name are chosen once."""

    value = WriteOnlyField(label=_("value"), required=False)

    class Meta:
        model = Secret
        fields = ("project", "name", "description", "whole_project", "tasks")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "value" in self.fields:
            self.fields["value"].required = self.instance.pk is None
            if self.instance.pk is not None:
                self.fields["value"].help_text = _("Leave it empty to keep the value that it has.")

    def write(self) -> Secret:
        given = self.changes()
        fields: dict[str, Any] = {
            name: given[name] for name in ("project", "name", "description", "value") if name in given
        }
        if {"whole_project", "tasks"} & given.keys():
            whole, tasks = self.cleaned_data["whole_project"], self.cleaned_data["tasks"]
            fields["tasks"] = None if whole else list(tasks)
        if self.instance.pk is None:
            return secrets.create(self.actor, fields, now=timezone.now())
        saved = Secret.objects.select_related("project").get(pk=self.instance.pk)
        return secrets.update(self.actor, saved, fields, now=timezone.now())

    def _save_m2m(self) -> None:
        """The service has written the tasks."""


@admin.register(Secret)
class SecretAdmin(ServiceAdmin):
    project_path = "project"
    form = SecretForm
    list_display = ("name", "project", "description", "whole_project", "version", "key_id", "updated_at")
    list_select_related = ("project",)
    list_filter = (("project", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("name",)
    autocomplete_fields = ("tasks",)

    def may(self, request: HttpRequest, verb: Verb, obj: Any) -> bool:
        return super().may(request, Verb.MANAGE_SECRETS if verb == Verb.EDIT else verb, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        may_write = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        own = ("project", "name", "description", *(("value",) if may_write else ()), "whole_project", "tasks")
        return own if obj is None else (*own, "version", "key_id", "created_at", "updated_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("project", "name", "version", "key_id", "created_at", "updated_at")

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "project":
            options["queryset"] = queries.projects_visible_to(actor_of(request))
        return super().formfield_for_foreignkey(db_field, request, **options)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        options["queryset"] = queries.tasks_visible_to(actor_of(request))
        return super().formfield_for_manytomany(db_field, request, **options)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Secret]:
        return super().get_queryset(request).select_related("project")

    def delete_row(self, actor: Actor, obj: Secret) -> None:
        secrets.delete(actor, obj, now=timezone.now())
