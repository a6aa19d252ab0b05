"""Workers, to look at: they register and leave by themselves, and can be asked to take nothing new or to leave."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_app.actors import Actor
from access_app.admin import ReadOnlyAdmin
from tasks_app.admin_verbs import apply_verb
from workers_app import services
from workers_app.models import Worker


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "host",
        "pid",
        "pool",
        "key",
        "slots",
        "slots_used",
        "messages_dropped",
        "cpu_percent",
        "memory_percent",
        "state",
        "beat_at",
        "lease_until",
        "started_at",
        "stopped_at",
    )
    list_select_related = ("pool", "key")
    list_filter = ("state", "pool", "key")
    search_fields = ("name", "host")
    actions = ("cordon_workers", "uncordon_workers", "drain_workers")

    @admin.action(description=_("Cordon the selected workers: they take nothing new"), permissions=["view"])
    def cordon_workers(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        _apply(request, queryset, services.cordon, lambda n: gettext("Workers cordoned: %(n)d.") % {"n": n})

    @admin.action(description=_("Uncordon the selected workers: they take runs again"), permissions=["view"])
    def uncordon_workers(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        _apply(request, queryset, services.uncordon, lambda n: gettext("Workers online again: %(n)d.") % {"n": n})

    @admin.action(description=_("Drain the selected workers: they finish and leave"), permissions=["view"])
    def drain_workers(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        _apply(request, queryset, services.drain, lambda n: gettext("Workers that drain: %(n)d.") % {"n": n})


def _apply(
    request: HttpRequest, rows: QuerySet[Worker], verb: Callable[..., Worker], done: Callable[[int], str]
) -> None:
    def ask(actor: Actor, worker: Worker) -> None:
        verb(actor, worker, now=timezone.now())

    apply_verb(request, rows, ask, done)
