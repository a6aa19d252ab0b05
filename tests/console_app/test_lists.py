"""The lists: filters in the URL, tabs with counts, paging, live regions."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from console_app import pulse
from tasks_app.services import runs
from tasks_app.states import RunState
from tests.console_app.factories import make_dispatcher, make_run, make_task, make_worker

POLL = {"HX-Request": "true", "HX-Source": "div#region"}


@pytest.fixture(autouse=True)
def no_clock_in_the_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag also changes every so many seconds; a test that crosses such a moment must not see it."""
    monkeypatch.setattr(pulse, "LONGEST_SILENCE_SECONDS", 10**12)


def _ids(page: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'<tr id="run-(\d+)"', page)]


def test_the_filter_is_in_the_url_and_stays_in_tabs_form_and_poll(as_alice, task):
    other = make_task(task.project, "report")
    failed, _ok, _foreign = make_run(task, RunState.FAILED), make_run(task, RunState.SUCCEEDED), make_run(other)
    page = as_alice.get(f"/runs/?task={task.pk}&state=failed").text
    assert _ids(page) == [failed.pk]
    assert f'hx-get="/runs/?task={task.pk}&amp;state=failed"' in page
    assert f'href="/runs/?task={task.pk}&amp;state=succeeded"' in page
    assert f'<input type="hidden" name="task" value="{task.pk}">' in page


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("/runs/", "created_after=2999-01-01T00:00:00Z"),
        ("/runs/", "created_before=2001-01-01T00:00:00Z"),
        ("/runs/", "state=failed&state=lost"),
        ("/runs/", "project=nowhere"),
        ("/tasks/", "executor=http"),
        ("/tasks/", "pool=nowhere"),
        ("/tasks/", "task_type=etl"),
        ("/tasks/", "paused=true"),
        ("/tasks/", "project=nowhere"),
    ],
)
def test_a_filter_without_a_control_is_named_can_be_cleared_and_stays_in_the_form(as_alice, task, address, query):
    make_run(task)
    page = as_alice.get(f"{address}?{query}&before=9999999&page=1").text
    assert "matches</strong>" in page
    assert page.count("Clear filters") == 2
    form = page.partition('id="filters"')[2].partition("</form>")[0]
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)
    assert [f"{name}={value}" for name, value in hidden] == query.split("&")


def test_a_filter_with_a_control_is_not_hidden_in_the_form_as_well(as_alice, alice, task):
    from access_app.roles import grant
    from tasks_app.models import Project

    grant(alice, "viewer", Project.objects.create(name="second"))
    assert 'type="hidden" name="project"' not in as_alice.get("/tasks/?project=second&name=x").text
    assert 'type="hidden" name="run_type"' not in as_alice.get("/runs/?run_type=manual").text


def test_tabs_count_what_the_rest_of_the_filter_leaves(as_alice, task):
    other = make_task(task.project, "report")
    for state in (RunState.FAILED, RunState.FAILED, RunState.CANCELLED):
        make_run(task, state)
    make_run(other, RunState.FAILED)
    tabs = {
        tab["state"]: tab["count"] for tab in as_alice.get(f"/runs/?task={task.pk}&state=cancelled").context["tabs"]
    }
    assert (tabs[None], tabs["failed"], tabs["cancelled"], tabs["running"]) == (3, 2, 1, 0)
    assert "lost" not in tabs


@pytest.mark.parametrize("query", ["state=nonsense", "task=abc", "run_type=nonsense"])
def test_a_filter_that_is_no_filter_says_so_and_shows_nothing(as_alice, task, query):
    make_run(task)
    page = as_alice.get(f"/runs/?{query}")
    assert page.status_code == 200
    assert 'class="message error"' in page.text
    assert _ids(page.text) == []


@pytest.mark.parametrize("query", ["before=x", "after=-1", "before=" + "9" * 40, "state=", "task=&run_type="])
def test_blank_and_impossible_values_change_nothing(as_alice, task, query):
    run = make_run(task)
    page = as_alice.get(f"/runs/?{query}")
    assert _ids(page.text) == [run.pk]


def test_pages_follow_each_other_without_gap_or_repeat_while_runs_arrive(as_alice, task):
    from access_app.actors import system_actor

    def trigger(count):
        requests = [runs.Request() for _ in range(count)]
        return runs.trigger_batch(system_actor(), task, requests, now=timezone.now())[0]

    ids = trigger(120)
    page = as_alice.get("/runs/?state=waiting")
    seen = _ids(page.text)
    while older := page.context["older"]:
        trigger(1)
        page = as_alice.get(f"/runs/?{older}")
        seen += _ids(page.text)
    assert seen == sorted(ids, reverse=True)
    newer = page.context["newer"]
    assert _ids(as_alice.get(f"/runs/?{newer}").text) == sorted(ids, reverse=True)[50:100]


def test_a_poll_gets_only_the_region_and_304_while_nothing_changed(as_alice, task):
    first = as_alice.get("/runs/", headers=POLL)
    assert "<html" not in first.text
    assert 'id="region"' in first.text
    tag = first["HX-PTag"]
    unchanged = as_alice.get("/runs/", headers={**POLL, "HX-PTag": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    make_run(task)
    changed = as_alice.get("/runs/", headers={**POLL, "HX-PTag": tag})
    assert changed.status_code == 200
    assert changed["HX-PTag"] != tag


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/runs/?task_name=ext", "/runs/?task_name=extr"),
        ("/tasks/?name=ext", "/tasks/?name=extr"),
        ("/runs/", "/tasks/"),
    ],
)
def test_the_tag_of_one_address_is_no_304_at_another(as_alice, task, first, second):
    tag = as_alice.get(first, headers=POLL)["HX-PTag"]
    assert as_alice.get(second, headers={**POLL, "HX-PTag": tag}).status_code == 200
    assert as_alice.get(first, headers={**POLL, "HX-PTag": tag}).status_code == 304


@pytest.mark.parametrize("address", ["/", "/runs/", "/tasks/", "/workers/"])
def test_an_unchanged_poll_costs_a_handful_of_cheap_queries(as_alice, task, address, django_assert_max_num_queries):
    make_run(task, RunState.RUNNING)
    tag = as_alice.get(address)["HX-PTag"]
    with django_assert_max_num_queries(6):
        assert as_alice.get(address, headers={**POLL, "HX-PTag": tag}).status_code == 304


def test_a_whole_page_is_never_304(as_alice):
    tag = as_alice.get("/runs/")["HX-PTag"]
    assert as_alice.get("/runs/", headers={"HX-PTag": tag}).status_code == 200


def test_a_filter_form_puts_its_fields_into_the_address_without_the_empty_ones(as_alice, task):
    form = {"HX-Request": "true", "HX-Source": "form#filters"}
    response = as_alice.get("/runs/?task_name=ext&run_type=&state=failed", headers=form)
    assert response["HX-Push-Url"] == "/runs/?task_name=ext&state=failed"
    assert "HX-Push-Url" not in as_alice.get("/runs/", headers=POLL)


@pytest.mark.parametrize("address", ["/", "/runs/", "/tasks/", "/workers/"])
def test_the_number_of_queries_does_not_grow_with_the_rows(as_alice, task, address, django_assert_max_num_queries):
    for number in range(12):
        make_run(make_task(task.project, f"task {number}", schedule="0 2 * * *"), RunState.FAILED)
        make_worker(f"worker-{number}")
    with django_assert_max_num_queries(26):
        assert as_alice.get(address).status_code == 200


def test_tasks_are_found_by_name_and_by_pause(as_alice, task):
    from access_app.actors import system_actor
    from tasks_app.services import tasks

    paused = make_task(task.project, "report", schedule="*/5 * * * *")
    tasks.pause(system_actor(), paused, now=timezone.now(), reason="invoices are wrong")
    page = as_alice.get("/tasks/")
    assert [tab["count"] for tab in page.context["tabs"]] == [2, 1, 1]
    assert "invoices are wrong" in page.text
    assert [row.name for row, _ in as_alice.get("/tasks/?paused=true").context["rows"]] == ["report"]
    assert [row.name for row, _ in as_alice.get("/tasks/?name=EXTR").context["rows"]] == ["extract"]
    assert "No task matches" in as_alice.get("/tasks/?name=nothing").text


def test_the_last_outcomes_of_a_task_stand_oldest_first(as_alice, task):
    states = (RunState.SUCCEEDED, RunState.FAILED, RunState.RUNNING)
    made = [make_run(task, state) for state in states]
    other = make_task(task.project, "report")
    (row,) = [o for t, o in as_alice.get("/tasks/").context["rows"] if t.pk == task.pk]
    assert row == [(run.pk, str(run.state)) for run in made]
    (nothing,) = [o for t, o in as_alice.get("/tasks/").context["rows"] if t.pk == other.pk]
    assert nothing == []


def test_the_overview_says_what_is_wrong_and_what_is_not(as_alice, task):
    page = as_alice.get("/").text
    assert "No worker is online" in page
    assert "No dispatcher is alive" in page
    assert "failed in the last hour" not in page
    make_worker()
    make_run(task, RunState.FAILED, reason="exit_code", detail="Exit code 1.")
    page = as_alice.get("/").text
    assert "No worker is online" not in page
    assert "1 run failed in the last hour." in page
    assert 'data-failing="1"' in page


def test_a_worker_whose_lease_is_over_is_shown_as_late_and_not_as_online(as_alice, db):
    make_worker("silent", lease_until=timezone.now() - timedelta(seconds=1))
    make_worker("alive")
    rows = {worker.name: is_late for worker, _, is_late in as_alice.get("/workers/").context["serving"]}
    assert rows == {"silent": True, "alive": False}
    assert [worker.name for worker in as_alice.get("/").context["workers"]] == ["alive"]


def test_how_to_start_a_worker_stands_beside_the_late_ones_until_one_holds_a_lease(as_alice):
    make_worker("silent", lease_until=timezone.now() - timedelta(seconds=1))
    page = as_alice.get("/workers/").text
    assert "silent" in page
    assert "manage.py run_worker" in page
    make_worker("alive", state="draining")
    assert "manage.py run_worker" not in as_alice.get("/workers/").text


@pytest.mark.parametrize(("seconds", "is_alive"), [(0, True), (20, True), (40, False), (500, False)])
def test_every_page_has_one_opinion_on_whether_a_dispatcher_is_alive(as_alice, seconds, is_alive):
    from monitoring_app import health

    make_dispatcher("ticker", silent_for=timedelta(seconds=seconds))
    page = as_alice.get("/workers/")
    assert [(row.name, is_late) for row, is_late in page.context["dispatchers"]] == [("ticker", not is_alive)]
    assert ("manage.py run_dispatcher" in page.text) is not is_alive
    assert ("No dispatcher is alive" in as_alice.get("/").text) is not is_alive
    assert (health.dispatcher() == health.OK) is is_alive


def test_how_to_start_a_dispatcher_is_shown_where_none_ever_was(as_alice):
    page = as_alice.get("/workers/")
    assert page.context["dispatchers"] == []
    assert "manage.py run_dispatcher" in page.text
