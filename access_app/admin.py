"""What the admin pages of all apps share, and the pages of API keys and the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_app import approvals, worker_keys
from access_app.actors import Actor, request_actor
from access_app.admin_forms import asked_text
from access_app.errors import SchedulerError
from access_app.models import ApiKey, AuditEntry, WorkerKey
from access_app.roles import Verb, allows, project_ids_with, role_in
from access_app.second_person import ApprovalRequired
from access_app.services import delete_key

if TYPE_CHECKING:
    AnyModelAdmin = admin.ModelAdmin[Any]
else:
    AnyModelAdmin = admin.ModelAdmin


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable when it runs
    """Counts no further than the rows that anybody pages through: a full count of millions costs seconds."""

    MOST = 10_000

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        return rows.order_by()[: self.MOST].count() if isinstance(rows, QuerySet) else len(rows)


class SchedulerAdmin(AnyModelAdmin):
    """A page whose rows belong to projects: `project_path` leads from the row to the project, None where none does.

    Rows of projects that the signed-in person may not see are not there, and the role there says what may be done.
    """

    project_path: str | None = None
    # The verb that shows the rows at all, and the fields for which it takes another one.
    shown_by: ClassVar[Verb] = Verb.VIEW
    guarded: ClassVar[Mapping[Verb, Sequence[str]]] = {}
    show_full_result_count = False
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if self.project_path is None:
            return rows
        visible = project_ids_with(actor_of(request), self.shown_by)
        return rows if visible is None else rows.filter(**{f"{self.project_path}__in": visible})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        hidden = {name for verb, names in self.guarded.items() if not self.may(request, verb, obj) for name in names}
        return [name for name in super().get_fields(request, obj) if name not in hidden]

    def project_id_of(self, obj: Any) -> int | None:
        """The id of the project that the row belongs to."""
        if self.project_path is None:
            return None
        *steps, last = self.project_path.split("__")
        for step in steps:
            obj = getattr(obj, step)
        found: int = obj.pk if last == "pk" else getattr(obj, f"{last}_id")
        return found

    def may(self, request: HttpRequest, verb: Verb, obj: Any) -> bool:
        """Whether the person may do this to the row; without a row, whether they may do it to any."""
        if obj is None:
            return True
        project_id = self.project_id_of(obj)
        return project_id is None or allows(role_in(actor_of(request), project_id), verb)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self.may(request, Verb.EDIT, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self.may(request, Verb.EDIT, obj)


class ReadOnlyAdmin(SchedulerAdmin):
    """A page of rows that the engine writes: to look at, never to change."""

    paginator = CappedPaginator

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class InstallationAdmin(SchedulerAdmin):
    """A page of what belongs to the whole installation: for its administrators only."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return administers(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return administers(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return administers(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return administers(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return administers(request)


class MadeElsewhereAdmin(ReadOnlyAdmin, InstallationAdmin):
    """A page of what is made at other doors, for the same administrators: to look at, and to end by an action."""


class ServiceAdmin(SchedulerAdmin):
    """A page of what people write: its form (a ServiceForm) writes through the service, and so does `delete_row`."""

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        form = super().get_form(request, obj, change=change, **options)
        return type(form.__name__, (form,), {"actor": actor_of(request)})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.pk = form.written.pk
        obj.refresh_from_db()

    def delete_row(self, actor: Actor, obj: Any) -> None:
        """Delete the row, through its service."""
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_row(actor_of(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        # All or none: Django tells afterwards that all of them were deleted.
        held: list[ApprovalRequired] = []
        with transaction.atomic():
            for obj in queryset:
                try:
                    self.delete_row(actor_of(request), obj)
                except ApprovalRequired as error:
                    held.append(error)
            if held:
                transaction.set_rollback(True)
        for one in held[1:]:
            messages.warning(request, asked_text(approvals.ask(one)))
        if held:
            raise held[0]

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except SchedulerError as error:
            return self._refused(request, error)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        try:
            return super().changelist_view(request, extra_context)
        except SchedulerError as error:
            return self._refused(request, error)

    def _refused(self, request: HttpRequest, error: SchedulerError) -> HttpResponse:
        asked = asked_text(approvals.ask(error)) if isinstance(error, ApprovalRequired) else ""
        messages.error(request, asked or error.message)
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    # Django's own walk through the related rows would load every run, and stop at those that nobody may delete here.
    def get_deleted_objects(
        self, objs: Sequence[Any] | QuerySet[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[Any, int], set[Any], list[str]]:
        rows = list(objs)
        refused = {str(self.opts.verbose_name) for row in rows if not self.has_delete_permission(request, row)}
        return [str(row) for row in rows], {self.opts.verbose_name_plural: len(rows)}, refused, []


def actor_of(request: HttpRequest) -> Actor:
    """The actor of the request, the same one all through it: it remembers the roles that it has looked up."""
    actor: Actor | None = getattr(request, "_scheduler_actor", None)
    if actor is None:
        actor = request_actor(request)
        request._scheduler_actor = actor  # type: ignore[attr-defined]
    return actor


def administers(request: HttpRequest) -> bool:
    """Whether the signed-in person administers the installation."""
    return bool(request.user.is_active and request.user.is_superuser)


@admin.register(ApiKey)
class ApiKeyAdmin(InstallationAdmin):
    """Keys are made where they can be shown once (API, command); here they are looked at and revoked."""

    list_display = ("name", "prefix", "user", "role", "limits", "created", "expiry", "last_used_at")
    list_select_related = ("user",)
    list_filter = ("role",)
    search_fields = ("name", "token_key", "user__username")
    fields = ("name", "prefix", "user", "role", "scopes", "addresses", "created", "expiry", "last_used_at")
    readonly_fields = fields

    @admin.display(description=_("key"))
    def prefix(self, obj: ApiKey) -> str:
        return f"{obj.token_key}…"

    @admin.display(description=_("scopes and addresses"))
    def limits(self, obj: ApiKey) -> str:
        return ", ".join([*obj.scopes, *obj.addresses]) or "–"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        delete_key(actor_of(request), obj, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset.select_related("user"):
            self.delete_model(request, key)


@admin.register(WorkerKey)
class WorkerKeyAdmin(MadeElsewhereAdmin):
    """Worker keys are made where they can be shown once (API, console, command); here they are revoked. A revoked key
    stays: workers and the audit trail name it."""

    list_display = ("name", "prefix", "pools_shown", "created_by", "created_at", "last_used_at", "revoked_at")
    list_select_related = ("created_by",)
    search_fields = ("name", "prefix")
    fields = readonly_fields = list_display
    actions = ("revoke_keys",)

    @admin.display(description=_("pools"))
    def pools_shown(self, obj: WorkerKey) -> str:
        return ", ".join(obj.pool_names)

    @admin.action(description=_("Revoke the selected worker keys: the next call with one is refused"))
    def revoke_keys(self, request: HttpRequest, queryset: QuerySet[WorkerKey]) -> None:
        for key in queryset.filter(revoked_at=None):
            worker_keys.revoke(actor_of(request), key, now=timezone.now())
            messages.success(request, gettext("The worker key %(name)s is revoked.") % {"name": key.name})

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerKey]:
        return super().get_queryset(request).prefetch_related("pools")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "verb", "object_type", "object_name", "address")
    search_fields = ("actor__exact", "verb__exact", "object_type__exact", "object_name__exact", "request_id__exact")
    search_help_text = _("A whole actor, verb, object type, object name or request id.")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return administers(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return administers(request)


from access_app import (  # noqa: E402  (register their pages, on the classes above)
    admin_approvals,  # noqa: F401
    admin_people,  # noqa: F401
    admin_settings,  # noqa: F401
    admin_tokens,  # noqa: F401
)
