"""Admin pages of the core: people's rows are written through the services, the engine's rows are only shown."""

from __future__ import annotations

import json
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_app.actors import Actor
from access_app.admin import ReadOnlyAdmin, ServiceAdmin, actor_of, administers
from access_app.roles import Verb, allows, project_ids_with, role_in
from tasks_app import (
    admin_calendars,  # noqa: F401  (registers its pages)
    admin_runs,  # noqa: F401  (registers its pages)
    admin_secrets,  # noqa: F401  (registers its page)
    queries,
)
from tasks_app.admin_forms import DependencyForm, ProjectForm, ScheduleForm, TaskForm
from tasks_app.admin_grants import ProjectRolesForm
from tasks_app.admin_resource_forms import PoolForm, ResourceForm
from tasks_app.admin_verbs import apply_verb
from tasks_app.breaker_columns import STATE_COLUMNS
from tasks_app.models import (
    Pool,
    Project,
    Resource,
    Schedule,
    Task,
    TaskDependency,
    TaskVersion,
)
from tasks_app.models.task import PauseMode
from tasks_app.services import dependencies, resources, runs, schedules, tasks
from tasks_app.services.task_resources import amounts_of

HOW = _("How it is executed")
PAUSE = ("paused", "paused_reason", "pause_mode", "paused_until")

# No celery beat runs here: periodic tasks that somebody made on these pages would never fire.
for _model in apps.get_app_config("django_celery_beat").get_models():
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


@admin.register(Project)
class ProjectAdmin(ServiceAdmin):
    project_path = "pk"
    form = ProjectForm
    list_display = ("name", "description", "created_at")
    search_fields = ("name",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        if change and self.has_change_permission(request, obj):
            options["form"] = ProjectRolesForm
        return super().get_form(request, obj, change=change, **options)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = ("name", "description", "created_at")
        if obj is None:
            return shown[:2]
        return (*shown, "take", "user", "group", "role") if self.has_change_permission(request, obj) else shown

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", "description", "created_at") if obj is not None else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return administers(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # What is changed here are its roles; whoever gives them needs no permission of Django's own.
        if obj is None:
            return project_ids_with(actor_of(request), Verb.MANAGE) != []
        return self.may(request, Verb.MANAGE, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Pool)
class PoolAdmin(ServiceAdmin):
    form = PoolForm
    list_display = ("name", "slots", "description")
    search_fields = ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj is not None else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return administers(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return administers(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Resource)
class ResourceAdmin(ServiceAdmin):
    form = ResourceForm
    list_display = ("name", "capacity", "rate_limit", "rate_window_seconds", "breaker_state", "breaker_open_until")
    list_filter = ("breaker_state",)
    search_fields = ("name",)
    actions = ("trip_breakers", "reset_breakers")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", *STATE_COLUMNS[:3]) if obj is not None else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return administers(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return administers(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return administers(request)

    def delete_row(self, actor: Actor, obj: Resource) -> None:
        resources.delete_resource(actor, obj, now=timezone.now())

    @admin.action(description=_("Trip the breakers of the selected resources"), permissions=["change"])
    def trip_breakers(self, request: HttpRequest, queryset: QuerySet[Resource]) -> None:
        def trip(actor: Actor, resource: Resource) -> None:
            resources.trip(actor, resource, now=timezone.now())

        apply_verb(request, queryset, trip, lambda n: gettext("Breakers tripped: %(n)d.") % {"n": n})

    @admin.action(description=_("Reset the breakers of the selected resources"), permissions=["change"])
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet[Resource]) -> None:
        def reset(actor: Actor, resource: Resource) -> None:
            resources.reset(actor, resource, now=timezone.now())

        apply_verb(request, queryset, reset, lambda n: gettext("Breakers reset: %(n)d.") % {"n": n})


@admin.register(Task)
class TaskAdmin(ServiceAdmin):
    project_path = "project"
    form = TaskForm
    list_display = ("name", "project", "executor", "pool", "priority", "paused", "updated_at")
    list_filter = ("paused", ("project", admin.RelatedOnlyFieldListFilter))
    search_fields = ("name",)
    readonly_fields = (*PAUSE, "number", "how", "taken", "created_at", "updated_at")
    actions = ("pause_tasks", "drain_tasks", "resume_tasks", "run_now")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        may_write = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        may_see = may_write or self.may(request, Verb.SEE_PARAMETERS, obj)
        kept = (*PAUSE, "number", "created_at", "updated_at")
        return [
            (None, {"fields": (*tasks.TASK_FIELDS, "amounts" if may_write else "taken")}),
            *([(HOW, {"fields": tasks.VERSION_FIELDS if may_write else ("how",)})] if may_see else []),
            *([(_("State"), {"fields": kept})] if obj is not None else []),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).select_related("version", "project", "pool")

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "project":
            options["queryset"] = queries.projects_visible_to(actor_of(request))
        return super().formfield_for_foreignkey(db_field, request, **options)

    def delete_row(self, actor: Actor, obj: Task) -> None:
        tasks.delete(actor, obj, now=timezone.now())

    @admin.display(description=_("executor"), ordering="version__executor")
    def executor(self, obj: Task) -> str:
        return obj.version.executor if obj.version else ""

    @admin.display(description=_("version"))
    def number(self, obj: Task) -> int | None:
        return obj.version.number if obj.version else None

    @admin.display(description=_("resources"))
    def taken(self, obj: Task) -> str:
        return ", ".join(f"{name}: {amount}" for name, amount in amounts_of(obj).items())

    @admin.display(description=HOW)
    def how(self, obj: Task) -> str:
        values = {name: getattr(obj.version, name) for name in tasks.VERSION_FIELDS} if obj.version else {}
        return json.dumps(values, indent=2, ensure_ascii=False)

    @admin.action(description=_("Pause the selected tasks"), permissions=["view"])
    def pause_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        def pause(actor: Actor, task: Task) -> None:
            tasks.pause(actor, task, now=timezone.now())

        apply_verb(request, queryset, pause, lambda n: gettext("Tasks paused: %(n)d.") % {"n": n})

    @admin.action(description=_("Drain the selected tasks"), permissions=["view"])
    def drain_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        def drain(actor: Actor, task: Task) -> None:
            tasks.pause(actor, task, now=timezone.now(), mode=PauseMode.DRAIN)

        apply_verb(request, queryset, drain, lambda n: gettext("Tasks being drained: %(n)d.") % {"n": n})

    @admin.action(description=_("Resume the selected tasks"), permissions=["view"])
    def resume_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        def resume(actor: Actor, task: Task) -> None:
            tasks.resume(actor, task, now=timezone.now())

        apply_verb(request, queryset, resume, lambda n: gettext("Tasks that go on: %(n)d.") % {"n": n})

    @admin.action(description=_("Run the selected tasks now"), permissions=["view"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        def trigger(actor: Actor, task: Task) -> None:
            runs.trigger(actor, task, runs.Request(), now=timezone.now())

        apply_verb(request, queryset, trigger, lambda n: gettext("Runs planned: %(n)d.") % {"n": n})


@admin.register(Schedule)
class ScheduleAdmin(ServiceAdmin):
    project_path = "task__project"
    form = ScheduleForm
    list_display = ("task", "kind", "__str__", "time_zone", "calendar", "enabled", "next_fire_at", "error")
    list_filter = ("enabled", "kind")
    search_fields = ("task__name", "expression")
    autocomplete_fields = ("task",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        return super().get_queryset(request).select_related("task", "calendar")

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "calendar":
            options["queryset"] = queries.calendars_visible_to(actor_of(request))
        return super().formfield_for_foreignkey(db_field, request, **options)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        engine = ("next_fire_at", "next_run_at", "looked_until", "fired_until", "error", "created_at", "updated_at")
        return ("task", *engine) if obj is not None else ()

    def delete_row(self, actor: Actor, obj: Schedule) -> None:
        schedules.delete(actor, obj, now=timezone.now())


@admin.register(TaskDependency)
class TaskDependencyAdmin(ServiceAdmin):
    project_path = "downstream__project"
    form = DependencyForm
    list_display = ("upstream", "downstream", "condition", "period", "created_at")
    search_fields = ("upstream__name", "downstream__name")
    autocomplete_fields = ("upstream", "downstream")

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskDependency]:
        return queries.dependencies_visible_to(actor_of(request))

    def may(self, request: HttpRequest, verb: Verb, obj: Any) -> bool:
        ends = () if obj is None else (obj.upstream, obj.downstream)
        return all(allows(role_in(actor_of(request), task.project_id), verb) for task in ends)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("upstream", "downstream") if obj is not None else ()

    def delete_row(self, actor: Actor, obj: TaskDependency) -> None:
        dependencies.delete(actor, obj, now=timezone.now())


@admin.register(TaskVersion)
class TaskVersionAdmin(ReadOnlyAdmin):
    project_path = "task__project"
    guarded = {Verb.SEE_PARAMETERS: ("command", "params")}
    list_display = ("task", "number", "executor", "created_at", "created_by")
    list_select_related = ("task", "created_by")
    list_filter = ("executor",)
    search_fields = ("task__name",)
    ordering = ("-pk",)
