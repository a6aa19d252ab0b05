"""`/metrics` for Prometheus: the web process's own numbers, and those of the installation read when it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import prometheus_client
from django.db.models import Case, Count, DurationField, ExpressionWrapper, F, Max, Min, Q, Sum, When
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django_prometheus.exports import ExportToDjangoView
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from rest_framework.request import Request

from access_app.actors import system_actor
from access_app.api.views import ApiView
from access_app.roles import require_membership
from dispatcher_app.models import Dispatcher
from monitoring_app.health import DISPATCHER_SILENCE
from monitoring_app.invariants import check_invariants
from monitoring_app.schedule_invariants import owed
from monitoring_app.stats import CostlyValue, pool_loads, run_counts
from tasks_app.breaker import BreakerState
from tasks_app.models import Resource, Run
from tasks_app.models.run import RunType
from tasks_app.rowset import database_now
from tasks_app.states import TERMINAL, UNSUCCESSFUL, RunState
from workers_app.models import HOLDING_A_LEASE, Worker

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
LOOKED_BACK, SHORT_LOOK = timedelta(days=1), timedelta(minutes=10)
WITH_A_RULE = Q(breaker_failures__isnull=False) | Q(breaker_ratio__isnull=False)


class MetricsView(ApiView):
    @extend_schema(operation_id="metrics", responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse:
        """Prometheus text format. Give Prometheus an API key with the role viewer."""
        require_membership(self.actor)
        response: HttpResponse = ExportToDjangoView(request)
        response.content += prometheus_client.generate_latest(_registry)
        response["Cache-Control"] = "no-store"
        return response


class InstallationCollector(Collector):
    """Reads the database at scrape time, so that every web process answers the same."""

    def collect(self) -> Iterator[Metric]:
        now = database_now()
        yield from _run_counters()
        yield _dispatch_delays()
        yield from _pools(now)
        yield _breakers()
        yield from _clockwork(now)

    def describe(self) -> list[Metric]:
        # Keeps registration from collecting: there may be no database yet.
        return []


def _run_counters() -> Iterator[Metric]:
    counts = run_counts(system_actor())
    ended = CounterMetricFamily("task_runs", "Runs kept that are over, by state.", labels=["state"])
    live = GaugeMetricFamily("scheduler_runs", "Runs that are not over, by state.", labels=["state"])
    for state in RunState:
        (ended if state in TERMINAL else live).add_metric([state.value], counts[state])
    yield ended
    yield live
    failures = sum(counts[state] for state in UNSUCCESSFUL)
    yield CounterMetricFamily("task_failures", "Runs kept that ended badly, expired or were lost.", value=failures)


def _pools(now: datetime) -> Iterator[Metric]:
    age = GaugeMetricFamily("scheduler_queue_age_seconds", "Wait of the oldest queued run.", labels=["pool"])
    in_use = GaugeMetricFamily("scheduler_slots_in_use", "Runs queued or running.", labels=["pool"])
    for load in pool_loads(Run.objects.all(), now):
        age.add_metric([load["name"]], load["oldest_queued_seconds"])
        in_use.add_metric([load["name"]], load["queued"] + load["running"])
    yield age
    yield in_use


def _breakers() -> Metric:
    states = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)
    text = "State of the circuit breaker: 0 closed, 1 half open, 2 open."
    metric = GaugeMetricFamily("scheduler_breaker_state", text, labels=["resource"])
    for name, state in Resource.objects.filter(WITH_A_RULE).order_by("name").values_list("name", "breaker_state"):
        metric.add_metric([name], states.index(BreakerState(state)))
    return metric


def _clockwork(now: datetime) -> Iterator[Metric]:
    missing = _checked.get("fires", lambda: sum(max(one.missing, 0) for one in owed(now - LOOKED_BACK, now)))
    text = "Instants of the last day that are due and have neither a run nor an entry in the ledger."
    yield GaugeMetricFamily("scheduler_fires_unanswered", text, value=missing)
    broken = _checked.get("invariants", lambda: len(check_invariants(now, since=now - SHORT_LOOK)))
    text = "Faults that a check of the invariants finds, in history of the last ten minutes."
    yield GaugeMetricFamily("scheduler_invariant_violations", text, value=broken)
    alive = Worker.objects.filter(state__in=HOLDING_A_LEASE)
    seen = alive.aggregate(oldest=Min("beat_at"), online=Count("pk", filter=Q(lease_until__gt=now)))
    lease_age = (now - seen["oldest"]).total_seconds() if seen["oldest"] else 0.0
    text = "Time since the last beat of the worker that has been silent the longest."
    yield GaugeMetricFamily("scheduler_worker_lease_age_seconds", text, value=max(lease_age, 0.0))
    yield GaugeMetricFamily("scheduler_workers_online", "Workers with a lease.", value=seen["online"])
    yield _dropped()
    ticking = Dispatcher.objects.filter(beat_at__gte=now - DISPATCHER_SILENCE)
    tick = ticking.aggregate(slowest=Max("tick_ms"), count=Count("pk"))
    text = "Last tick of the slowest dispatcher."
    yield GaugeMetricFamily("scheduler_tick_seconds", text, value=(tick["slowest"] or 0.0) / 1000)
    yield GaugeMetricFamily("scheduler_dispatchers_online", "Dispatchers that report.", value=tick["count"])


def _dropped() -> Metric:
    total = Worker.objects.aggregate(total=Sum("messages_dropped"))["total"] or 0
    text = "Messages that workers took from the broker and that were not ours."
    return CounterMetricFamily("scheduler_messages_dropped", text, value=total)


_checked: CostlyValue[int] = CostlyValue()
_delays: CostlyValue[dict[str, Any]] = CostlyValue()


def _dispatch_delays() -> Metric:
    found = _delays.get("delays", _count_delays)
    buckets = [(str(bound), found[f"le_{place}"]) for place, bound in enumerate(BUCKETS)]
    total = found["total"].total_seconds() if found["total"] else 0.0
    text = "From the nominal time of a scheduled run, or the time that another fell due, to its start."
    metric = HistogramMetricFamily("scheduler_dispatch_delay_seconds", text)
    metric.add_metric([], [*buckets, ("+Inf", found["count"])], total)
    return metric


def _count_delays() -> dict[str, Any]:
    wanted = Case(
        When(run_type=RunType.SCHEDULED, attempt=1, then=Coalesce("nominal_at", "due_at")), default=F("due_at")
    )
    delay = ExpressionWrapper(F("started_at") - wanted, output_field=DurationField())
    bounds = {f"le_{i}": Count("pk", filter=Q(delay__lte=timedelta(seconds=b))) for i, b in enumerate(BUCKETS)}
    started = Run.objects.filter(started_at__isnull=False).annotate(delay=delay).order_by()
    return started.aggregate(**bounds, count=Count("pk"), total=Sum("delay"))


_registry = prometheus_client.CollectorRegistry()
_registry.register(InstallationCollector())
