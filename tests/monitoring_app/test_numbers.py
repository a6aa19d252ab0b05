"""Statistics and metrics: what they count, and what they must not."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from access_app import services
from access_app.actors import system_actor
from dispatcher_app.models import Dispatcher
from monitoring_app import checks
from monitoring_app.stats import CostlyValue, version
from tasks_app import moves, transitions
from tasks_app.models import Resource, Run, Task
from tasks_app.services import runs, schedules
from tasks_app.states import TERMINAL, RunState
from tasks_app.statistics import percentile, success_rate, wanted_at
from tests.api.client import default_pool, is_problem
from workers_app.models import Worker

NAMES = {
    "task_runs",
    "task_failures",
    "scheduler_runs",
    "scheduler_dispatch_delay_seconds",
    "scheduler_queue_age_seconds",
    "scheduler_slots_in_use",
    "scheduler_breaker_state",
    "scheduler_fires_unanswered",
    "scheduler_invariant_violations",
    "scheduler_worker_lease_age_seconds",
    "scheduler_messages_dropped",
    "scheduler_tick_seconds",
}


@pytest.fixture
def worker(db):
    now = timezone.now()
    return Worker.objects.create(
        id=uuid4(),
        name="w",
        host="h",
        pid=1,
        pool=default_pool(),
        slots=4,
        started_at=now,
        beat_at=now - timedelta(seconds=4),
        lease_until=now + timedelta(seconds=11),
    )


@pytest.fixture
def history(make_task, worker):
    """Three runs that fell due now: one succeeded after 2 s, one failed after 4 s, one queued for 30 s; one waits."""
    task, now, system = make_task(schedule="0 2 * * *"), timezone.now(), system_actor()
    ids, _new = runs.trigger_batch(system, task, [runs.Request() for _ in range(4)], now=now)
    transitions.enqueue(ids[:3], now=now - timedelta(seconds=30), sweep_at=now, actor="t")
    for id, delay, state in ((ids[0], 2, RunState.SUCCEEDED), (ids[1], 4, RunState.FAILED)):
        at = now + timedelta(seconds=delay)
        transitions.claim([(id, 1)], worker_id=worker.pk, now=at, actor="t")
        transitions.finish([moves.Outcome(id, 1, state)], worker_id=worker.pk, now=at, actor="t")
    return ids


def scrape(client):
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert response.status_code == 200 and response["Content-Type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(response.content.decode())}


def values(family):
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_metrics_carry_the_names_and_numbers_of_the_contract(api, alice, history):
    Dispatcher.objects.create(name="d", started_at=timezone.now(), beat_at=timezone.now(), tick_ms=250)
    since = timezone.now().replace(second=0) - timedelta(minutes=4)
    two = {"expression": "* * * * *", "end_at": since + timedelta(seconds=150)}
    schedules.create(system_actor(), Task.objects.get(), two, now=since + timedelta(seconds=1))
    found = scrape(api(alice, "viewer"))
    assert found.keys() >= NAMES
    by_state = values(found["task_runs"])
    assert by_state["succeeded",] == 1 and by_state["failed",] == 1 and by_state["lost",] == 0
    assert {state for (state,) in by_state} == set(TERMINAL)
    assert values(found["scheduler_runs"]) == {("waiting",): 1, ("queued",): 1, ("running",): 0}
    assert values(found["task_failures"])[()] == 1
    assert values(found["scheduler_slots_in_use"])["default",] == 1
    assert 29 < values(found["scheduler_queue_age_seconds"])["default",] < 90
    assert values(found["scheduler_fires_unanswered"])[()] == 2
    # Two instants have no answer (I2), and the schedule looks back (I11).
    assert values(found["scheduler_invariant_violations"])[()] == 2
    assert 4 <= values(found["scheduler_worker_lease_age_seconds"])[()] < 60
    assert values(found["scheduler_tick_seconds"])[()] == 0.25
    delays = {s.labels.get("le", s.name[-3:]): s.value for s in found["scheduler_dispatch_delay_seconds"].samples}
    assert (delays["1.0"], delays["2.5"], delays["5.0"], delays["+Inf"]) == (0, 1, 2, 2)
    assert delays["sum"] == 6 and "django_http_requests_before_middlewares" in found


def test_what_workers_have_dropped_is_summed_over_those_that_are_there_and_those_that_have_left(api, alice, worker):
    assert values(scrape(api(alice, "viewer"))["scheduler_messages_dropped"])[()] == 0
    Worker.objects.filter(pk=worker.pk).update(messages_dropped=3)
    worker.pk, worker.state, worker.messages_dropped = uuid4(), "offline", 4
    worker.save(force_insert=True)
    assert values(scrape(api(alice, "viewer"))["scheduler_messages_dropped"])[()] == 7


def test_breakers_are_counted_by_how_open_they_are(api, root_user):
    for name, state in (("a", "closed"), ("b", "half_open"), ("c", "open")):
        Resource.objects.create(name=name, breaker_failures=1, breaker_state=state)
    Resource.objects.create(name="by share", breaker_ratio=0.5)
    Resource.objects.create(name="unguarded", capacity=1)
    found = values(scrape(api(root_user))["scheduler_breaker_state"])
    assert found == {("a",): 0, ("b",): 1, ("c",): 2, ("by share",): 0}


def test_metrics_of_an_empty_installation_are_zeros(api, root_user):
    found = scrape(api(root_user))
    assert found.keys() >= NAMES and sum(values(found["task_runs"]).values()) == 0


def test_metrics_ask_for_a_login_and_a_role(api, charlie):
    is_problem(Client().get("/metrics"), 401)
    is_problem(api(charlie).get("/metrics"), 403)


def test_a_session_may_read_the_metrics(alice):
    client = Client()
    client.force_login(alice)
    assert client.get("/metrics/").status_code == 200


def test_stats_count_what_the_asker_may_see(api, alice, charlie, history):
    stats = api(alice).get("/api/system/stats").json()
    counts = {state: n for state, n in stats["runs"].items() if n}
    assert counts == {"waiting": 1, "queued": 1, "succeeded": 1, "failed": 1}
    assert set(stats["runs"]) == {state.value for state in RunState}
    assert stats["throughput_per_minute"] == 0.4
    assert stats["dispatch_delay_ms"] == {"p50": 2000.0, "p99": 4000.0}
    assert stats["workers"] == {"online": 1, "cordoned": 0, "draining": 0, "lost": 0, "slots": 4}
    assert stats["pools"]["default"]["queued"] == 1 and stats["pools"]["default"]["oldest_queued_seconds"] > 29
    assert sum(api(charlie).get("/api/system/stats").json()["runs"].values()) == 0


def test_a_worker_whose_lease_has_run_out_is_shown_as_lost(api, alice, worker, history):
    client = api(alice)
    assert client.get(f"/api/workers/{worker.pk}").json()["state"] == "online"
    Worker.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    shown = client.get("/api/workers").json()["results"]
    assert [(row["name"], row["state"], row["pool"]) for row in shown] == [("w", "lost", "default")]
    assert client.get("/api/system/stats").json()["workers"]["lost"] == 1
    is_problem(client.get(f"/api/workers/{uuid4()}"), 404)


def test_info_tells_kinds_and_no_credentials(api, charlie, settings):
    settings.SCHEDULER_BROKER_URL = "amqp://guest:hush@rabbit.internal:5672//"
    response = api(charlie).get("/api/system/info")
    info = response.json()
    assert info["broker"] == "amqp" and info["version"] == version() != "unknown" and info["time"].endswith("Z")
    assert "hush" not in response.content.decode() and "rabbit" not in response.content.decode()


def test_delay_is_from_the_nominal_time_for_the_first_attempt_of_a_scheduled_run_alone():
    nominal, due = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    assert wanted_at("scheduled", 1, nominal, due) == nominal
    assert wanted_at("scheduled", 2, nominal, due) == due
    assert wanted_at("upstream", 1, nominal, due) == due
    assert wanted_at("manual", 1, None, due) == due


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.99, 10), (0.1, 1), (0.0, 1)])
def test_percentiles_are_of_the_nearest_rank(share, expected):
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == expected
    assert percentile([], share) is None


def test_only_what_was_costly_is_remembered_and_for_each_key_apart(monkeypatch):
    value: CostlyValue[int] = CostlyValue()
    assert value.get("a", lambda: 1) == 1
    assert value.get("a", lambda: 2) == 2

    def slow():
        clock[0] += 0.2
        return 3

    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert value.get("a", slow) == 3
    assert value.get("a", lambda: 4) == 3 and value.get("b", lambda: 5) == 5
    clock[0] += 4.1
    assert value.get("a", lambda: 6) == 6


@pytest.mark.parametrize(
    ("name", "value", "check", "id"),
    [
        ("SCHEDULER_LEASE_SECONDS", 6.0, checks.clockwork, "scheduler.E001"),
        ("SCHEDULER_TIME_ZONE", "Mars/Olympus", checks.time_zone, "scheduler.E002"),
        ("SCHEDULER_BROKER_URL", "carrier-pigeon://x", checks.broker, "scheduler.E003"),
        ("PRODUCTION", True, checks.broker, "scheduler.W001"),
    ],
)
def test_settings_that_cannot_work_are_named_with_a_hint(settings, name, value, check, id):
    assert check() == []
    setattr(settings, name, value)
    (message,) = check()
    assert message.id == id and message.hint


def test_run_counts_of_two_people_do_not_mix(api, alice, charlie, history):
    services_of = {user: api(user) for user in (alice, charlie)}
    for _turn in range(2):
        totals = [sum(c.get("/api/system/stats").json()["runs"].values()) for c in services_of.values()]
        assert totals == [4, 0] == [Run.objects.count(), 0]
    assert services.keys_visible_to(system_actor()).count() == 2


def test_the_success_rate_judges_runs_that_started_and_came_to_an_end_of_their_own():
    none = {state.value: 0 for state in RunState}
    assert success_rate(none) is None
    left_out = dict.fromkeys(("waiting", "queued", "running", "cancelled", "skipped", "upstream_failed", "expired"), 7)
    bad = dict.fromkeys(("failed", "timed_out", "lost", "quarantined"), 1)
    assert success_rate({**none, **left_out, **bad, "succeeded": 12}) == 0.75
    assert success_rate({**none, **left_out}) is None
