"""One filter object per list: it serves the page, its counts, the API and exports alike."""

from __future__ import annotations

import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from tasks_app.models import Run, Task
from tasks_app.models.run import STATE_CHOICES, RunType


class RunFilter(django_filters.FilterSet):
    task = django_filters.NumberFilter(field_name="task_id", min_value=1, max_value=2**63 - 1, label=_("task"))
    task_name = django_filters.CharFilter(field_name="task__name", lookup_expr="icontains", label=_("task name"))
    project = django_filters.CharFilter(field_name="task__project__name", label=_("project"))
    state = django_filters.MultipleChoiceFilter(choices=STATE_CHOICES, label=_("state"))
    backfill = django_filters.NumberFilter(
        field_name="backfill_id", min_value=1, max_value=2**63 - 1, label=_("backfill")
    )
    shard_of = django_filters.NumberFilter(
        field_name="shard_of_id", method="with_parts", min_value=1, max_value=2**63 - 1, label=_("part of")
    )
    run_type = django_filters.ChoiceFilter(choices=RunType.choices, label=_("type"))
    created_after = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte", label=_("from"))
    created_before = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", label=_("until"))

    class Meta:
        model = Run
        fields: tuple[str, ...] = ()

    def with_parts(self, rows: QuerySet[Run], _name: str, run: int) -> QuerySet[Run]:
        """All parts of a run: the run itself, and those that were made beside it."""
        return rows.filter(Q(pk=run) | Q(shard_of=run))


class TaskFilter(django_filters.FilterSet):
    name = django_filters.CharFilter(lookup_expr="icontains", label=_("name"))
    project = django_filters.CharFilter(field_name="project__name", label=_("project"))
    executor = django_filters.CharFilter(field_name="version__executor", label=_("executor"))
    pool = django_filters.CharFilter(field_name="pool__name", label=_("pool"))
    task_type = django_filters.CharFilter(label=_("type"))
    paused = django_filters.BooleanFilter(label=_("paused"))

    class Meta:
        model = Task
        fields: tuple[str, ...] = ()
