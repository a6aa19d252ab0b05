"""The protocol of agents: register, heartbeat, claim, log, finish, leave. For worker keys alone. docs/agents.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from django.utils.functional import cached_property
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.problems import CONTENT_TYPE
from access_app.api.schema import problem_response
from access_app.api.views import ApiView
from access_app.models import WorkerKey
from tasks_app.api.bodies import EmptyBody
from workers_app import agent_reports, agents
from workers_app.api.agent_bodies import (
    ClaimAnswer,
    ClaimBody,
    FinishAnswer,
    FinishBody,
    HeartbeatAnswer,
    HeartbeatBody,
    LogAnswer,
    LogBody,
)
from workers_app.api.agent_door import ANY_KEY, ForAgents
from workers_app.load import Load
from workers_app.messages import Pair
from workers_app.models import Worker

LOST = {(409, CONTENT_TYPE): problem_response("The lease of the worker is over; it has to register anew.")}
AGENT = Path(settings.BASE_DIR) / "agent" / "agent.py"
NOT_YOURS = {
    (409, CONTENT_TYPE): problem_response(
        "`run_not_yours`: the attempt is not running on this worker; `output_gap`: send lines from `next_offset` on."
    )
}


class AgentView(ApiView):
    """A view for agents; its worker is one that came with the key of the request."""

    authentication_classes = ANY_KEY
    permission_classes = (ForAgents,)

    @cached_property
    def worker(self) -> Worker:
        worker_id: UUID = self.kwargs["worker_id"]
        key = self.request.auth
        assert isinstance(key, WorkerKey)
        return agents.find(key, worker_id)


class HeartbeatView(AgentView):
    @extend_schema(operation_id="workers_heartbeat", request=HeartbeatBody, responses={200: HeartbeatAnswer, **LOST})
    def post(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """Renew the lease of the worker, tell its load and what it has under way; hear what has to end."""
        worker = self.worker
        given = self.read(HeartbeatBody)
        held = _pairs(given.pop("running"))
        draining = given.pop("draining")
        orders = agents.beat(worker, Load(len(held), **given), held, draining=draining)
        return Response(_heard(orders))


class ClaimView(AgentView):
    @extend_schema(operation_id="workers_claim", request=ClaimBody, responses={200: ClaimAnswer, **LOST})
    def post(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """Take runs for the free slots of the worker. `running` names what it has under way already; what is its own
        and not named there comes again, before anything new."""
        worker = self.worker
        held = _pairs(self.read(ClaimBody)["running"])
        orders = agents.claim(worker, held, now=self.now)
        return Response({**_heard(orders), "runs": [agents.described(active) for active in orders.runs]})


class LeaveView(AgentView):
    @extend_schema(operation_id="workers_leave", request=EmptyBody, responses={204: None})
    def post(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """Sign the worker off; what it still had is given away."""
        worker = self.worker
        self.read(EmptyBody)
        agents.leave(worker)
        return Response(status=204)


class RunLogView(AgentView):
    @extend_schema(operation_id="workers_log", request=LogBody, responses={200: LogAnswer, **NOT_YOURS})
    def post(self, request: Request, worker_id: UUID, run_id: int) -> Response:  # noqa: ARG002
        """Add lines to the output of an attempt. `offset` is the number of the first; lines that are here already are
        passed over."""
        worker = self.worker
        given = self.read(LogBody)
        lines = [agent_reports.Line(*line) for line in given["lines"]]
        place, truncated = (given["attempt"], given["offset"]), given["truncated"]
        offset = agent_reports.write_output(worker, run_id, *place, lines, truncated=truncated, now=self.now)
        return Response({"next_offset": offset})


class RunFinishView(AgentView):
    @extend_schema(operation_id="workers_finish", request=FinishBody, responses={200: FinishAnswer, **NOT_YOURS})
    def post(self, request: Request, worker_id: UUID, run_id: int) -> Response:  # noqa: ARG002
        """Tell how an attempt ended, once all its lines are here. What that means for the run is decided here."""
        worker = self.worker
        end = agent_reports.End(**self.read(FinishBody))
        return Response({"state": agent_reports.finish(worker, run_id, end, now=self.now)})


class AgentFileView(ApiView):
    authentication_classes = ANY_KEY
    asks_for_role = False

    @extend_schema(operation_id="agent_file", responses={(200, "text/x-python"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002
        """The agent, for whoever has any key: one file of standard-library Python that makes a machine a worker."""
        response = HttpResponse(AGENT.read_bytes(), content_type="text/x-python; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="agent.py"'
        return response


def _pairs(held: Iterable[Mapping[str, int]]) -> set[Pair]:
    return {(each["run"], each["attempt"]) for each in held}


def _heard(orders: agents.Orders) -> dict[str, Any]:
    ends = [{"run": run, "attempt": attempt, "how": how} for (run, attempt), how in sorted(orders.ends.items())]
    return {"state": str(orders.state), "end": ends, **asdict(agents.pace())}
