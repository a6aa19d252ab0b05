"""Admin pages of calendars: written through their service."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import ForeignKey, ManyToManyField, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from access_app.actors import Actor
from access_app.admin import ServiceAdmin, actor_of, administers
from access_app.roles import Verb, allows, role_in
from tasks_app import queries
from tasks_app.admin_forms import CalendarForm
from tasks_app.models import Calendar
from tasks_app.services import calendars


@admin.register(Calendar)
class CalendarAdmin(ServiceAdmin):
    form = CalendarForm
    list_display = ("name", "project", "description", "updated_at")
    list_select_related = ("project",)
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Calendar]:
        return queries.calendars_visible_to(actor_of(request)).order_by("name", "pk")

    def may(self, request: HttpRequest, verb: Verb, obj: Any) -> bool:
        if obj is None:
            return True
        if obj.project_id is None:
            return administers(request)
        return allows(role_in(actor_of(request), obj.project_id), verb)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("project", "holiday_rules", "created_at", "updated_at") if obj is not None else ()

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "project":
            options["queryset"] = queries.projects_visible_to(actor_of(request))
        return super().formfield_for_foreignkey(db_field, request, **options)

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Any, Any], request: HttpRequest, **options: Any
    ) -> Any:
        options["queryset"] = queries.calendars_visible_to(actor_of(request))
        return super().formfield_for_manytomany(db_field, request, **options)

    def delete_row(self, actor: Actor, obj: Calendar) -> None:
        calendars.delete(actor, obj, now=timezone.now())
