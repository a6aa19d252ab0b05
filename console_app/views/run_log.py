"""The output of a run, an attempt at a time: the last lines at first, then polling from an offset."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render

from access_app.actors import Actor
from access_app.roles import Verb, require
from console_app.door import page
from console_app.links import number
from tasks_app import queries, run_output
from tasks_app.errors import OutputUnavailable
from tasks_app.models import Run
from tasks_app.states import TERMINAL

LINES_AT_FIRST = 500
LINES_A_POLL = 1000
FOUND_A_TIME = 200
MOST_SEARCHED = 200
FASTEST_POLL, SLOWEST_POLL = 1, 5
# Polls without a new line after which the next ones come a second later.
IDLE_STEP = 5


@page
def lines(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    """Lines from `offset` on and the element that asks for the next ones; or the lines before the number `before`."""
    run = _run_with_output(actor, pk)
    attempt = number(request.GET, "attempt") or run_output.shown_attempt(run)
    before = number(request.GET, "before")
    if before is not None:
        return render(request, "console/components/log_earlier.html", _earlier(run, attempt, before))
    offset, idle = number(request.GET, "offset") or 0, number(request.GET, "idle") or 0
    return render(request, "console/components/log_tail.html", _tail(run, attempt, offset, idle))


@page
def search(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    """The lines of an attempt that hold a text, from `offset` on; without a text none."""
    run = _run_with_output(actor, pk)
    attempt = number(request.GET, "attempt") or run_output.shown_attempt(run)
    wanted = request.GET.get("search", "")[:MOST_SEARCHED]
    offset = number(request.GET, "offset") or 0
    found, rest = (
        run_output.find_lines(run, attempt, wanted, offset=offset, limit=FOUND_A_TIME) if wanted else ([], None)
    )
    context = {"run": run, "attempt": attempt, "search": wanted, "lines": found, "rest": rest, "offset": offset}
    return render(request, "console/components/log_found.html", context)


@page
def text(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    """The whole output of an attempt as plain text, escapes and all, read in chunks."""
    run = _run_with_output(actor, pk)
    attempt = number(request.GET, "attempt") or run_output.shown_attempt(run)
    parts = ("".join(f"{line['text']}\n" for line in part) for part in run_output.chunks(run, attempt))
    response = StreamingHttpResponse(parts, content_type="text/plain; charset=utf-8")
    how = "attachment" if "download" in request.GET else "inline"
    response["Content-Disposition"] = f'{how}; filename="run-{run.pk}-{attempt}.txt"'
    return response


def first_lines(run: Run, attempt: int | None) -> dict[str, Any]:
    """The context of components/log.html: the last lines that there are by now."""
    attempt = attempt or run_output.shown_attempt(run)
    start = max(run_output.line_count(run, attempt) - LINES_AT_FIRST, 0)
    try:
        return {"start": start, "attempts": range(1, run.attempt + 1), **_tail(run, attempt, start, 0)}
    except OutputUnavailable as error:
        return {"start": 0, "attempts": range(1, run.attempt + 1), "attempt": attempt, "unavailable": error.message}


def _tail(run: Run, attempt: int, offset: int, idle: int) -> dict[str, Any]:
    # The run was read before its lines: what it wrote is stored before it is over, so these are all there are.
    is_over = run.state in TERMINAL or attempt < run.attempt
    found, next_offset = run_output.log_lines(run, offset=offset, limit=LINES_A_POLL, attempt=attempt)
    idle = 0 if found else idle + 1
    complete = is_over and len(found) < LINES_A_POLL
    return {
        "run": run,
        "attempt": attempt,
        "lines": found,
        "next_offset": next_offset,
        "complete": complete,
        "next_attempt": attempt + 1 if complete and attempt < run.attempt else None,
        "truncated": complete and run_output.log_truncated(run, attempt),
        "idle": idle,
        "seconds": min(FASTEST_POLL + idle // IDLE_STEP, SLOWEST_POLL),
    }


def _earlier(run: Run, attempt: int, before: int) -> dict[str, Any]:
    start = max(before - LINES_A_POLL, 0)
    found, _next = run_output.log_lines(run, offset=start, limit=before - start, attempt=attempt)
    return {"run": run, "attempt": attempt, "start": start, "lines": found}


def _run_with_output(actor: Actor, pk: int) -> Run:
    run = queries.get_visible(queries.runs_visible_to(actor), pk)
    require(actor, Verb.SEE_OUTPUT, run.task.project_id)
    return run
