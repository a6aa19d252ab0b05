"""`/runs/`: which runs match? The whole filter is in the URL; paging is by id, so new runs never shift a page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase, QueryDict

from access_app.actors import Actor
from console_app import pulse
from console_app.door import keep_filter_in_url, live, page, show
from console_app.links import kept, number, with_query, without_blanks
from console_app.paging import by_id
from tasks_app import queries
from tasks_app.filters import RunFilter
from tasks_app.models import Task
from tasks_app.models.run import RunType
from tasks_app.states import RunState

CONTROLS = {"task_name", "run_type"}
ALWAYS_SHOWN = (
    RunState.WAITING,
    RunState.QUEUED,
    RunState.RUNNING,
    RunState.SUCCEEDED,
    RunState.FAILED,
    RunState.CANCELLED,
)


@page
@live(pulse.of_lists)
def run_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    query = without_blanks(request.GET)
    visible = queries.runs_visible_to(actor)
    matching = RunFilter(query, queryset=visible)
    stateless = RunFilter(with_query(query, state=None), queryset=visible)
    rows, newer, older = by_id(matching.qs if matching.is_valid() else visible.none(), query)
    context = {
        "filter": matching,
        "runs": rows,
        "newer": with_query(query, after=newer, before=None).urlencode() if newer else None,
        "older": with_query(query, before=older, after=None).urlencode() if older else None,
        "tabs": _tabs(stateless, query),
        "task": _task(actor, query),
        "run_types": RunType.choices,
        "filtered": any(name in query for name in RunFilter.base_filters),
        "kept": kept(query, RunFilter.base_filters, CONTROLS),
    }
    return keep_filter_in_url(request, show(request, "runs", context))


def _tabs(stateless: RunFilter, query: QueryDict) -> list[dict[str, Any]]:
    counts = queries.counts_by_state(stateless.qs) if stateless.is_valid() else {}
    chosen = query.getlist("state")
    tabs: list[dict[str, Any]] = [
        {"state": None, "count": sum(counts.values()), "current": not chosen, "query": _state_query(query, None)}
    ]
    for state in RunState:
        count = counts.get(state.value, 0)
        if state in ALWAYS_SHOWN or count or state.value in chosen:
            tabs.append(
                {
                    "state": state.value,
                    "count": count,
                    "current": state.value in chosen,
                    "query": _state_query(query, state.value),
                }
            )
    return tabs


def _state_query(query: QueryDict, state: str | None) -> str:
    return with_query(query, state=state, before=None, after=None).urlencode()


def _task(actor: Actor, query: QueryDict) -> Task | None:
    pk = number(query, "task")
    return queries.tasks_visible_to(actor).filter(pk=pk).first() if pk is not None else None
