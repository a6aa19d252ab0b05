"""Workers: list and one."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import django_filters
from django.db.models import Count, QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app.actors import Actor
from access_app.api.fields import InstantField
from access_app.api.views import ApiView, ListView
from access_app.roles import visible_project_ids
from tasks_app.models import Run
from tasks_app.queries import get_visible
from tasks_app.rowset import database_now
from tasks_app.states import RunState
from workers_app.models import Worker, WorkerState

HOLDING_A_LEASE = (WorkerState.ONLINE, WorkerState.DRAINING)


class WorkerFilter(django_filters.FilterSet):
    pool = django_filters.CharFilter(field_name="pool__name", label=_("pool"))
    host = django_filters.CharFilter(label=_("host"))

    class Meta:
        model = Worker
        fields: tuple[str, ...] = ()


class WorkerSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    host = serializers.CharField()
    pid = serializers.IntegerField()
    pool = serializers.CharField(source="pool.name")
    slots = serializers.IntegerField()
    running = serializers.SerializerMethodField()
    labels = serializers.DictField()
    code_version = serializers.CharField()
    state = serializers.SerializerMethodField(
        help_text="online, draining, offline, or lost once its lease has run out."
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
    filterset = WorkerFilter
    orderings = ("started_at",)
    default_ordering = "-started_at"

    @extend_schema(operation_id="workers_list", responses=WorkerSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Worker processes, the latest to start first. One start of a process is one row."""
        return self.page(workers_visible_to(self.actor), _rendered)


class WorkerView(ApiView):
    @extend_schema(operation_id="workers_read", responses=WorkerSerializer)
    def get(self, request: Request, worker_id: UUID) -> Response:  # noqa: ARG002
        """One worker process."""
        return Response(_rendered([get_visible(workers_visible_to(self.actor), str(worker_id))])[0])


def workers_visible_to(actor: Actor) -> QuerySet[Worker]:
    """All workers for whoever has a role in some project: workers are shared between projects."""
    return Worker.objects.none() if visible_project_ids(actor) == [] else Worker.objects.select_related("pool")


def shown_state(worker: Worker, now: datetime) -> str:
    """The state as it is now: a worker whose lease has run out is lost, whether or not a dispatcher has noted it."""
    if worker.state in HOLDING_A_LEASE and worker.lease_until <= now:
        return WorkerState.LOST.value
    return str(worker.state)


def _rendered(workers: list[Worker]) -> list[Any]:
    ids = [worker.pk for worker in workers]
    live = Run.objects.filter(state=RunState.RUNNING, worker_id__in=ids).order_by().values_list("worker_id")
    context = {"running": dict(live.annotate(n=Count("pk"))), "now": database_now()}
    return list(WorkerSerializer(workers, many=True, context=context).data)
