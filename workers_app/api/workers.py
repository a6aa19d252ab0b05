"""Workers: list and one, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

import django_filters
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.api.fields import InstantField
from access_app.api.views import ApiView, ListView
from tasks_app.api.bodies import EmptyBody
from tasks_app.api.runs import WRONG_STATE
from tasks_app.queries import get_visible
from tasks_app.rowset import database_now
from workers_app import services
from workers_app.api.agent_bodies import RegisterAnswer, RegisterBody
from workers_app.api.agent_door import ANY_KEY, AgentsWrite, register
from workers_app.models import HOLDING_A_LEASE, Worker, WorkerState
from workers_app.services import shown_state, workers_visible_to


class WorkerFilter(django_filters.FilterSet):
    pool = django_filters.CharFilter(field_name="pool__name", label=_("pool"))
    host = django_filters.CharFilter(label=_("host"))
    name = django_filters.CharFilter(label=_("name"))
    state = django_filters.ChoiceFilter(choices=WorkerState.choices, method="in_state", label=_("state"))

    class Meta:
        model = Worker
        fields: tuple[str, ...] = ()

    def in_state(self, rows: QuerySet[Worker], _name: str, state: str) -> QuerySet[Worker]:
        """By the state that is shown: without its lease no worker is anything but lost."""
        now = database_now()
        if state == WorkerState.LOST:
            return rows.filter(Q(state=state) | Q(state__in=HOLDING_A_LEASE, lease_until__lte=now))
        found = rows.filter(state=state)
        return found.filter(lease_until__gt=now) if state in HOLDING_A_LEASE else found


class LoadSerializer(serializers.Serializer[Any]):
    slots_used = serializers.IntegerField()
    cpu_percent = serializers.FloatField(allow_null=True, help_text="Of all processors of its machine.")
    memory_percent = serializers.FloatField(allow_null=True, help_text="Of the memory of its machine.")
    memory_bytes = serializers.IntegerField(allow_null=True, help_text="Held by the worker, without its runs.")


class WorkerSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    host = serializers.CharField()
    pid = serializers.IntegerField()
    pool = serializers.CharField(source="pool.name")
    slots = serializers.IntegerField()
    running = serializers.SerializerMethodField(help_text="Runs that it executes now.")
    load = LoadSerializer(source="*", help_text="As of the last beat; null where it could not be measured.")
    messages_dropped = serializers.IntegerField(help_text="Taken from the broker and found not to be ours.")
    labels = serializers.DictField()
    executors = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="Of an agent; null: a worker of the broker, which has all.",
    )
    key = serializers.CharField(
        source="key.name", allow_null=True, default=None, help_text="The worker key of an agent."
    )
    code_version = serializers.CharField()
    state = serializers.SerializerMethodField(
        help_text="online, cordoned, draining, offline, or lost once its lease has run out."
    )
    started_at = InstantField()
    beat_at = InstantField()
    lease_until = InstantField()
    stopped_at = InstantField(allow_null=True)

    def get_running(self, worker: Worker) -> int:
        return int(self.context["running"].get(worker.pk, 0))

    def get_state(self, worker: Worker) -> str:
        return shown_state(worker, self.context["now"])


class WorkersView(ListView):
    authentication_classes = ANY_KEY
    permission_classes = (AgentsWrite,)
    filterset = WorkerFilter
    orderings = ("started_at",)
    default_ordering = "-started_at"

    @extend_schema(operation_id="workers_list", responses=WorkerSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Worker processes, the latest to start first. One start of a process is one row."""
        return self.page(workers_visible_to(self.actor), _rendered)

    @extend_schema(operation_id="workers_register", request=RegisterBody, responses={201: RegisterAnswer})
    def post(self, request: Request) -> Response:
        """Register an agent, a worker that comes through this API. For worker keys alone; see docs/agents.md."""
        return Response(register(request.auth, self.read(RegisterBody)), status=201)


class WorkerView(ApiView):
    @extend_schema(operation_id="workers_read", responses=WorkerSerializer)
    def get(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """One worker process."""
        return Response(_rendered([get_visible(workers_visible_to(self.actor), str(worker_id))])[0])


class _WorkerVerbView(ApiView):
    verb: ClassVar[Callable[..., Worker]]

    def act(self, worker_id: UUID) -> Response:
        actor = self.actor
        worker = get_visible(workers_visible_to(actor), str(worker_id))
        self.read(EmptyBody)
        return Response(_rendered([type(self).verb(actor, worker, now=self.now)])[0])


class CordonView(_WorkerVerbView):
    verb = staticmethod(services.cordon)

    @extend_schema(operation_id="workers_cordon", request=EmptyBody, responses={200: WorkerSerializer, **WRONG_STATE})
    def post(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """Let it take nothing new, from its next beat on; what runs on it goes on."""
        return self.act(worker_id)


class UncordonView(_WorkerVerbView):
    verb = staticmethod(services.uncordon)

    @extend_schema(operation_id="workers_uncordon", request=EmptyBody, responses={200: WorkerSerializer, **WRONG_STATE})
    def post(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """Let a cordoned worker take runs again."""
        return self.act(worker_id)


class DrainView(_WorkerVerbView):
    verb = staticmethod(services.drain)

    @extend_schema(operation_id="workers_drain", request=EmptyBody, responses={200: WorkerSerializer, **WRONG_STATE})
    def post(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """Let it finish what runs on it, take nothing new, and leave. This cannot be taken back."""
        return self.act(worker_id)


def _rendered(workers: list[Worker]) -> list[Any]:
    context = {"running": services.running_on(worker.pk for worker in workers), "now": database_now()}
    return list(WorkerSerializer(workers, many=True, context=context).data)
