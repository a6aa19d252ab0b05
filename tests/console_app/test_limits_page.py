"""The page of pools and resources, its buttons, and the form of a task's limits and retries."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from access_app.actors import system_actor
from tasks_app.models import Pool, Resource, Task
from tasks_app.services import resources, tasks
from tasks_app.states import RunState
from tests.console_app.factories import make_run, make_task


@pytest.fixture
def as_root(root_user) -> Client:
    client = Client()
    client.force_login(root_user)
    return client


@pytest.fixture
def api(db) -> Resource:
    return Resource.objects.create(name="api", capacity=5, breaker_failures=3, rate_limit=10, rate_window_seconds=60)


def form_of(task: Task, **typed: str) -> dict[str, str]:
    assert task.version is not None
    return {
        "name": task.name, "project": str(task.project_id), "executor": "shell", "command": "true", "pool":
        str(task.pool_id), "priority": "normal", "overlap": "allow", "trigger_rule": "all_success",
        "timeout_seconds": "60", "retry_count": "3", "retry_delay_seconds": "5", "etag": tasks.etag(task),
    } | typed  # fmt: skip


def test_the_page_shows_what_is_in_use_and_what_is_held(as_alice, project, api):
    Pool.objects.filter(name="default").update(slots=8)
    task = make_task(project, resources={"api": 2}, weight=3)
    make_run(task, RunState.RUNNING)
    make_run(task)
    resources.trip(system_actor(), api, now=timezone.now())
    page = as_alice.get("/limits/")
    assert page.context["pools"] == [(Pool.objects.get(name="default"), 3, 0, 1)]
    assert page.context["resources"] == [(api, 2, 1, True)]
    for text in ("3 / 8", "2 / 5", "10 in 60 s", "1 run waits", "open"):
        assert text in page.text, text


def test_who_administers_the_installation_turns_breakers_and_nobody_else_is_offered_to(
    as_root, as_alice, as_charlie, api
):
    other = Resource.objects.create(name="plain", capacity=1)
    trip, reset = (reverse(f"console:resource_{verb}", args=[api.pk]) for verb in ("trip", "reset"))
    assert trip not in as_alice.get("/limits/").text
    assert "message error" in as_alice.post(trip, follow=True).text
    assert as_charlie.post(trip).status_code == 404
    api.refresh_from_db()
    assert api.breaker_state == "closed"
    assert trip in as_root.get("/limits/").text and reset not in as_root.get("/limits/").text
    assert "has tripped" in as_root.post(trip, follow=True).text
    api.refresh_from_db()
    assert api.breaker_state == "open"
    assert "is reset" in as_root.post(reset, follow=True).text
    assert "message error" in as_root.post(reverse("console:resource_trip", args=[other.pk]), follow=True).text
    assert as_root.get(trip).status_code == 405


# The form


def test_limits_and_retries_are_typed_kept_and_shown_again(as_alice, task, api):
    typed = {
        "weight": "2", "concurrency_key": "{{ params.region }}", "max_concurrent_per_key": "4", "rate_limit": "5",
        "rate_window_seconds": "60", "start_deadline_seconds": "30", "auto_pause_after": "7", "resources": "api 3",
        "retry_cap_seconds": "99", "retry_budget_seconds": "600", "never_exit_codes": "2, -9",
        "never_exceptions": "ValueError shop.Refused", "never_statuses": "404,5xx", "poison_limit": "2",
        "memory_limit_mb": "256", "cpu_limit_seconds": "90", "open_files_limit": "64",
    }  # fmt: skip
    answer = as_alice.post(f"/tasks/{task.pk}/edit", form_of(task, **typed))
    assert answer.status_code == 302, answer.context["form"].errors
    task = Task.objects.select_related("version").get(pk=task.pk)
    found = tasks.describe(task)
    assert found["resources"] == {"api": 3}
    assert found["never_retry"] == {
        "exit_codes": [2, -9], "exceptions": ["ValueError", "shop.Refused"], "statuses": ["404", "5xx"],
    }  # fmt: skip
    numbers = ("weight", "max_concurrent_per_key", "rate_limit", "start_deadline_seconds", "retry_cap_seconds")
    assert [found[name] for name in numbers] == [2, 4, 5, 30, 99]
    more = ("poison_limit", "memory_limit_mb", "cpu_limit_seconds", "open_files_limit")
    assert [found[name] for name in more] == [2, 256, 90, 64]
    shown = as_alice.get(f"/tasks/{task.pk}/").text
    for text in ("256 MB of memory", "1 m 30 s of processor time", "64 open files in each process"):
        assert text in shown
    assert found["retry_jitter"] is False
    page = as_alice.get(f"/tasks/{task.pk}/edit").text
    assert page.count('<details class="more" open>') == 2
    for shown in ('value="api 3"', 'value="2, -9"', 'value="ValueError, shop.Refused"', 'value="404, 5xx"'):
        assert shown in page, shown


def test_the_page_of_a_task_tells_its_limits_and_is_silent_about_what_is_usual(as_alice, project, api):
    limits = {"weight": 2, "concurrency_key": "{{ params.x }}", "params": {"x": 1}, "auto_pause_after": 7}
    task = make_task(project, "limited", resources={"api": 3}, **limits, rate_limit=5, rate_window_seconds=60)
    page = as_alice.get(f"/tasks/{task.pk}/").text
    for shown in ("api 3", "{{ params.x }}", "1 at once", "5 in 60 s", "after 7 failures in a row; now 0"):
        assert shown in page, shown
    usual = as_alice.get(f"/tasks/{make_task(project).pk}/").text
    assert not [word for word in ("Weight", "Resources", "Concurrency key", "Pauses itself") if word in usual]


def test_what_is_usual_stays_folded_away(as_alice, task):
    for address in ("/tasks/new", f"/tasks/{task.pk}/edit"):
        page = as_alice.get(address).text
        assert page.count('<details class="more">') == 3, address


def test_what_is_left_empty_keeps_its_default(as_alice, task):
    assert as_alice.post(f"/tasks/{task.pk}/edit", form_of(task)).status_code == 302
    found = tasks.describe(Task.objects.select_related("version").get(pk=task.pk))
    assert (found["weight"], found["max_concurrent_per_key"], found["retry_cap_seconds"]) == (1, 1, 3600)
    assert (found["resources"], found["never_retry"], found["rate_limit"]) == ({}, {}, None)


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"weight": "0"}, "weight"),
        ({"rate_limit": "5"}, "rate_window_seconds"),
        ({"concurrency_key": "{{ upstream.x }}"}, "concurrency_key"),
        ({"resources": "api 6"}, "resources"),
        ({"resources": "nowhere"}, "resources"),
        ({"resources": "api two"}, "resources"),
        ({"never_exit_codes": "two"}, "never_exit_codes"),
        ({"never_exceptions": "1st"}, "never_exceptions"),
        ({"never_statuses": "999"}, "never_statuses"),
        ({"retry_budget_seconds": "0"}, "retry_budget_seconds"),
    ],
)
def test_mistakes_stand_at_their_fields_with_their_group_open(as_alice, task, api, typed, field):
    answer = as_alice.post(f"/tasks/{task.pk}/edit", form_of(task, **typed, retry_jitter="on"))
    assert answer.status_code == 422
    assert answer.context["form"].errors.keys() == {field}
    assert '<details class="more" open>' in answer.text


def test_labels_and_routing_are_typed_kept_and_shown_again(as_alice, task):
    typed = {"required_labels": "gpu and zone in (a, b)", "routing": "failover", "routing_workers": "etl-1, etl-2"}
    answer = as_alice.post(f"/tasks/{task.pk}/edit", form_of(task, **typed, retry_jitter="on"))
    assert answer.status_code == 302, answer.context["form"].errors
    found = tasks.describe(Task.objects.select_related("version").get(pk=task.pk))
    assert (found["routing"], found["routing_workers"]) == ("failover", ["etl-1", "etl-2"])
    page = as_alice.get(f"/tasks/{task.pk}/edit").text
    assert 'value="etl-1, etl-2"' in page and page.count('<details class="more" open>') == 1
    shown = as_alice.get(f"/tasks/{task.pk}/").text
    assert "gpu and zone in (a, b)" in shown and "etl-1, etl-2" in shown
    task = Task.objects.get(pk=task.pk)
    assert as_alice.post(f"/tasks/{task.pk}/edit", form_of(task, routing_workers="etl-1")).status_code == 302
    assert Task.objects.get(pk=task.pk).routing == "failover", "left empty it stays as it is"


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"required_labels": "gpu and"}, "required_labels"),
        ({"routing": "specific"}, "routing_workers"),
        ({"routing": "consistent_hash"}, "routing_key"),
        ({"routing": "shards"}, "shards"),
        ({"routing": "nowhere"}, "routing"),
    ],
)
def test_mistakes_of_routing_stand_at_their_fields(as_alice, task, typed, field):
    answer = as_alice.post(f"/tasks/{task.pk}/edit", form_of(task, **typed, retry_jitter="on"))
    assert answer.status_code == 422
    assert answer.context["form"].errors.keys() == {field}
