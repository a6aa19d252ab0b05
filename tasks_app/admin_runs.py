"""Admin pages of runs and of what belongs to them: only shown, but for ending them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from access_app.actors import Actor
from access_app.admin import ReadOnlyAdmin
from access_app.roles import Verb
from tasks_app.admin_verbs import apply_verb
from tasks_app.models import (
    Backfill,
    EndStep,
    LedgerEntry,
    Run,
    RunDependency,
    RunEvent,
    RunOutput,
    StoredOutput,
    WorkerDeath,
)
from tasks_app.services import runs


class FoundByRunAdmin(ReadOnlyAdmin):
    """Rows found by the id of a run as a number, by the index: a lookup of Django's search casts the whole column."""

    run_path = "run_id"
    search_fields = ("run__id__exact",)
    search_help_text = _("The id of a run.")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term.isdecimal():
            # More digits than an id can have are not even made a number.
            return (queryset.filter(**{self.run_path: int(term)}) if len(term) < 19 else queryset.none()), False
        return (self.found_by_text(queryset, term) if term else queryset), False

    def found_by_text(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """The rows for a term that is no id."""
        return queryset.none()


@admin.register(Run)
class RunAdmin(FoundByRunAdmin):
    run_path = "pk"
    project_path = "task__project"
    guarded = {Verb.SEE_PARAMETERS: ("params", "concurrency_key"), Verb.SEE_OUTPUT: ("output",)}
    list_display = ("id", "task", "state", "reason", "run_type", "attempt", "nominal_at", "started_at", "finished_at")
    list_select_related = ("task",)
    list_filter = ("state", "run_type", "pool")
    search_fields = ("task__name__exact",)
    search_help_text = _("The id of a run, or the whole name of a task.")
    actions = ("cancel_runs", "terminate_runs")

    def found_by_text(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(task__name=term)

    @admin.action(description=_("Cancel the selected runs"), permissions=["view"])
    def cancel_runs(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        def cancel(actor: Actor, run: Run) -> None:
            runs.cancel(actor, run, now=timezone.now())

        apply_verb(
            request, queryset.select_related("task"), cancel, lambda n: gettext("Runs cancelled: %(n)d.") % {"n": n}
        )

    @admin.action(description=_("Kill the selected runs"), permissions=["view"])
    def terminate_runs(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        def kill(actor: Actor, run: Run) -> None:
            runs.terminate(actor, run, now=timezone.now())

        apply_verb(request, queryset.select_related("task"), kill, lambda n: gettext("Runs killed: %(n)d.") % {"n": n})


@admin.register(RunDependency)
class RunDependencyAdmin(ReadOnlyAdmin):
    project_path = "downstream__task__project"
    list_display = ("upstream_id", "downstream_id", "condition")
    ordering = ("-pk",)


@admin.register(RunEvent)
class RunEventAdmin(FoundByRunAdmin):
    project_path = "run__task__project"
    list_display = ("at", "run_id", "from_state", "to_state", "attempt", "reason", "actor")
    ordering = ("-pk",)


@admin.register(EndStep)
class EndStepAdmin(FoundByRunAdmin):
    project_path = "run__task__project"
    list_display = ("at", "run_id", "attempt", "step")
    ordering = ("-pk",)


@admin.register(WorkerDeath)
class WorkerDeathAdmin(FoundByRunAdmin):
    project_path = "run__task__project"
    guarded = {Verb.SEE_OUTPUT: ("last_words",)}
    list_display = ("at", "run_id", "attempt", "worker_name", "host", "signal", "out_of_memory", "run_peak_mb")
    ordering = ("-pk",)


@admin.register(RunOutput)
class RunOutputAdmin(FoundByRunAdmin):
    project_path = "run__task__project"
    shown_by = Verb.SEE_OUTPUT
    list_display = ("run_id", "attempt", "first_line", "line_count")
    ordering = ("-pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[RunOutput]:
        # The lines themselves are needed on the page of one batch only.
        return super().get_queryset(request).defer("lines")


@admin.register(StoredOutput)
class StoredOutputAdmin(FoundByRunAdmin):
    project_path = "run__task__project"
    shown_by = Verb.SEE_OUTPUT
    list_display = ("run_id", "attempt", "line_count", "size", "store", "key")
    ordering = ("-pk",)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    project_path = "schedule__task__project"
    list_display = ("schedule", "first_at", "last_at", "count", "answer", "reason")
    list_select_related = ("schedule",)
    list_filter = ("answer",)
    search_fields = ("schedule__task__name__exact",)
    ordering = ("-pk",)


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """Read-only: a backfill is planned, paused and cancelled in the console, over the API or by command."""

    project_path = "task__project"
    guarded = {Verb.SEE_PARAMETERS: ("params",)}
    list_display = ("id", "task", "state", "start_at", "end_at", "total", "created_at", "created_by")
    list_filter = ("state",)
    list_select_related = ("task", "created_by")
    search_fields = ("task__name__exact",)
    ordering = ("-pk",)
