"""`/tasks/`: what runs here, what is off?"""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import Case, Min, Q, When
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.utils.translation import gettext as _

from access_app.actors import Actor
from console_app import pulse
from console_app.door import keep_filter_in_url, live, page, show
from console_app.links import kept, with_query, without_blanks
from console_app.views.task_edit import editable_projects
from tasks_app import queries
from tasks_app.filters import TaskFilter

PAGE_SIZE = 50
OUTCOMES = 20


@page
@live(pulse.of_lists)
def task_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    query = without_blanks(request.GET)
    visible = queries.tasks_visible_to(actor)
    matching = TaskFilter(query, queryset=visible)
    found = matching.qs if matching.is_valid() else visible.none()
    found = found.annotate(
        # A schedule with a calendar shows when it really runs.
        next_fire_at=Min(
            Case(When(schedules__calendar=None, then="schedules__next_fire_at"), default="schedules__next_run_at"),
            filter=Q(schedules__enabled=True),
        )
    ).prefetch_related("schedules")
    shown = Paginator(found.order_by("name", "pk"), PAGE_SIZE).get_page(query.get("page"))
    projects = list(queries.projects_visible_to(actor))
    controls = {"name", "project"} if len(projects) > 1 else {"name"}
    outcomes = queries.last_outcomes([task.pk for task in shown], count=OUTCOMES)
    context = {
        "filter": matching,
        "page": shown,
        "rows": [(task, outcomes.get(task.pk, [])[::-1]) for task in shown],
        "previous": _page_query(query, shown.previous_page_number() if shown.has_previous() else None),
        "next": _page_query(query, shown.next_page_number() if shown.has_next() else None),
        "tabs": _tabs(TaskFilter(with_query(query, paused=None), queryset=visible), query),
        "projects": projects,
        "filtered": any(name in query for name in TaskFilter.base_filters),
        "kept": kept(query, TaskFilter.base_filters, controls),
        "may_create": editable_projects(actor).exists(),
    }
    return keep_filter_in_url(request, show(request, "tasks", context))


def _tabs(unpaused: TaskFilter, query: QueryDict) -> list[dict[str, Any]]:
    found = unpaused.qs if unpaused.is_valid() else unpaused.queryset.none()
    paused = found.filter(paused=True).count()
    total = found.count()
    chosen = query.get("paused") or None
    rows = ((_("All"), None, total), (_("Active"), "false", total - paused), (_("Paused"), "true", paused))
    return [
        {
            "label": label,
            "count": count,
            "current": chosen == value,
            "query": with_query(query, paused=value, page=None).urlencode(),
        }
        for label, value, count in rows
    ]


def _page_query(query: QueryDict, page_number: int | None) -> str | None:
    return with_query(query, page=page_number).urlencode() if page_number else None
