"""Runs: list, one, its events and output, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.actors import Actor
from access_app.api.problems import CONTENT_TYPE
from access_app.api.schema import problem_response
from access_app.api.views import ApiView, ListView, rendered_by
from access_app.roles import Verb, holds, require
from tasks_app import deaths
from tasks_app.api.bodies import EmptyBody
from tasks_app.api.lookups import find_run, run_rows
from tasks_app.api.run_bodies import AttemptQuery, LogQuery, ReleaseBody, RerunBody
from tasks_app.api.run_shapes import (
    LogSerializer,
    RunEventSerializer,
    RunSerializer,
    WorkerDeathSerializer,
    render_run,
    render_runs,
)
from tasks_app.filters import RunFilter
from tasks_app.models import Run
from tasks_app.run_output import chunks, find_lines, line_count, log_lines, log_truncated, shown_attempt
from tasks_app.services import quarantine, reruns, runs
from tasks_app.states import TERMINAL

WRONG_STATE = {
    (409, CONTENT_TYPE): problem_response("`wrong_state`: the run or its task is in a state that does not allow this.")
}


class RunsView(ListView):
    filterset = RunFilter
    orderings = ("id", "due_at")

    @extend_schema(operation_id="runs_list", responses=RunSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The runs that you may see, newest first. `state` may be given several times."""
        return self.page(run_rows(self.actor), lambda rows: render_runs(rows, self.actor))


class RunView(ApiView):
    @extend_schema(operation_id="runs_read", responses=RunSerializer)
    def get(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """One run."""
        return Response(render_run(find_run(self.actor, run_id), self.actor))


class RunEventsView(ListView):
    default_ordering = "id"

    @extend_schema(operation_id="runs_events", responses=RunEventSerializer(many=True))
    def get(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """Every change of state of the run, oldest first."""
        rows = find_run(self.actor, run_id).events.all()
        return self.page(rows, rendered_by(RunEventSerializer))


class RunDeathsView(ApiView):
    @extend_schema(operation_id="runs_deaths", responses=WorkerDeathSerializer(many=True))
    def get(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """The workers that died while they had the run, and what is known of why."""
        run = find_run(self.actor, run_id)
        may_see = holds(self.actor, Verb.SEE_OUTPUT, run.task.project_id)
        context = {"last_lines": deaths.last_lines(run) if may_see else None}
        rows = WorkerDeathSerializer(deaths.of_run(run), many=True, context=context)
        return Response({"results": rows.data})


class RunLogView(ApiView):
    query_parameters = ("offset", "limit", "attempt", "search")

    @extend_schema(operation_id="runs_log", parameters=[LogQuery], responses=LogSerializer)
    def get(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """Lines of output from `offset` on. Ask again from `next_offset` until `complete`.

        With `search` only lines that hold the text, in upper or lower case; `next_offset` then says where to search on.
        """
        run = _run_with_output(self.actor, run_id)
        wanted = self.read_query(LogQuery)
        attempt = wanted["attempt"] or shown_attempt(run)
        # The run was read before its lines, and its last line is stored before its end: over then means all is here.
        over = run.state in TERMINAL or attempt < run.attempt
        offset, limit = wanted["offset"], wanted["limit"]
        if wanted["search"]:
            lines, rest = find_lines(run, attempt, wanted["search"], offset=offset, limit=limit)
            complete = over and rest is None
            next_offset = rest if rest is not None else max(line_count(run, attempt), offset)
        else:
            lines, next_offset = log_lines(run, offset=offset, limit=limit, attempt=attempt)
            complete = over and not log_lines(run, offset=next_offset, limit=1, attempt=attempt)[0]
        return Response(
            {
                "lines": lines,
                "next_offset": next_offset,
                "complete": complete,
                "truncated": log_truncated(run, attempt),
                "attempt": attempt,
            }
        )


class RunLogTextView(ApiView):
    query_parameters = ("attempt",)

    @extend_schema(
        operation_id="runs_log_text",
        parameters=[AttemptQuery],
        responses={(200, "text/plain"): OpenApiTypes.STR},
    )
    def get(self, request: Request, run_id: int) -> StreamingHttpResponse:  # noqa: ARG002
        """The whole output of an attempt as a text file, as it is now."""
        run = _run_with_output(self.actor, run_id)
        attempt = self.read_query(AttemptQuery)["attempt"] or shown_attempt(run)
        parts = ("".join(f"{line['text']}\n" for line in part) for part in chunks(run, attempt))
        response = StreamingHttpResponse(parts, content_type="text/plain; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="run-{run.pk}-{attempt}.txt"'
        return response


def _run_with_output(actor: Actor, run_id: int) -> Run:
    run = find_run(actor, run_id)
    require(actor, Verb.SEE_OUTPUT, run.task.project_id)
    return run


class _RunVerbView(ApiView):
    verb: ClassVar[Callable[..., Run]]
    status: ClassVar[int] = 200

    def act(self, run_id: int) -> Response:
        actor: Actor = self.actor
        run = find_run(actor, run_id)
        self.read(EmptyBody)
        changed = type(self).verb(actor, run, now=self.now)
        return Response(render_run(find_run(actor, changed.pk), actor), status=self.status)


class CancelView(_RunVerbView):
    verb = staticmethod(runs.cancel)
    status = 202

    @extend_schema(operation_id="runs_cancel", request=EmptyBody, responses={202: RunSerializer, **WRONG_STATE})
    def post(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """Ask that the run does not go on. One that has not started is cancelled at once."""
        return self.act(run_id)


class TerminateView(_RunVerbView):
    verb = staticmethod(runs.terminate)
    status = 202

    @extend_schema(operation_id="runs_terminate", request=EmptyBody, responses={202: RunSerializer, **WRONG_STATE})
    def post(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """As cancel, but what runs is killed at once, without the time to clean up."""
        return self.act(run_id)


class RerunView(ApiView):
    @extend_schema(operation_id="runs_rerun", request=RerunBody, responses={201: RunSerializer, **WRONG_STATE})
    def post(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """A new run with the parameters of this one, which must be over; or, with the scope `failed`, new runs of all
        that failed in its firing and of everything downstream of that. Answers the first of these."""
        actor = self.actor
        run = find_run(actor, run_id)
        verb = reruns.rerun_failed if self.read(RerunBody)["scope"] == "failed" else runs.rerun
        again = verb(actor, run, now=self.now)
        return Response(render_run(find_run(actor, again.pk), actor), status=201)


class ReleaseView(ApiView):
    @extend_schema(operation_id="runs_release", request=ReleaseBody, responses={201: RunSerializer, **WRONG_STATE})
    def post(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """A new run in place of one in quarantine: `as_is`, with `more_memory` (by default twice as much as it had), or
        `alone`, with no other run beside it on its worker."""
        actor = self.actor
        run = find_run(actor, run_id)
        body = self.read(ReleaseBody)
        again = quarantine.release(actor, run, body["how"], memory_limit_mb=body["memory_limit_mb"], now=self.now)
        return Response(render_run(find_run(actor, again.pk), actor), status=201)


class HoldView(_RunVerbView):
    verb = staticmethod(runs.hold)

    @extend_schema(operation_id="runs_hold", request=EmptyBody, responses={200: RunSerializer, **WRONG_STATE})
    def post(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """Keep a waiting run from starting until it is released."""
        return self.act(run_id)


class UnholdView(_RunVerbView):
    verb = staticmethod(runs.unhold)

    @extend_schema(operation_id="runs_unhold", request=EmptyBody, responses={200: RunSerializer, **WRONG_STATE})
    def post(self, request: Request, run_id: int) -> Response:  # noqa: ARG002
        """Let a held run go on."""
        return self.act(run_id)
