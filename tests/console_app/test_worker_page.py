"""The page of one worker: what runs on it, its load, its lease, and its buttons."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from access_app.models import AuditEntry
from tasks_app.models import Pool, Project, Run
from tasks_app.states import RunState
from tests.console_app.factories import make_run, make_task, make_worker
from workers_app.models import Worker

BUTTONS = ("worker_cordon", "worker_uncordon", "worker_drain")


@pytest.fixture
def as_root(root_user) -> Client:
    client = Client()
    client.force_login(root_user)
    return client


def address(worker: Worker, name: str = "worker") -> str:
    return reverse(f"console:{name}", args=[worker.pk])


def test_the_page_shows_what_runs_on_it_and_how_loaded_it_is(as_alice, task):
    worker = make_worker(
        "big", labels={"zone": "a"}, slots=8, cpu_percent=12.4, memory_percent=0.4, memory_bytes=3 * 2**20
    )
    here, elsewhere = make_run(task, RunState.RUNNING), make_run(task, RunState.RUNNING)
    Run.objects.filter(pk=here.pk).update(worker_id=worker.pk)
    page = as_alice.get(address(worker))
    assert [run.pk for run in page.context["runs"]] == [here.pk]
    for text in ("big", "zone=a", "1 / 8", "12 %", "0.4 %", "3.0 MiB", f"#{here.pk}"):
        assert text in page.text, text
    assert f"#{elsewhere.pk}<" not in page.text
    assert address(worker) in as_alice.get("/workers/").text


def test_runs_of_projects_that_somebody_may_not_see_are_counted_and_not_named(as_alice, task):
    worker = make_worker()
    foreign = make_task(Project.objects.create(name="secret"), "unseen-task")
    for each in (task, foreign):
        Run.objects.filter(pk=make_run(each, RunState.RUNNING).pk).update(worker_id=worker.pk)
    page = as_alice.get(address(worker))
    assert (page.context["running"], page.context["unseen"]) == (2, 1)
    assert "unseen-task" not in page.text and "1 more run is not shown" in page.text


def test_an_administrator_of_the_installation_cordons_resumes_and_drains_by_button(as_root):
    worker = make_worker()
    page = as_root.get(address(worker))
    for name, state, offered in (
        ("worker_cordon", "cordoned", "worker_uncordon"),
        ("worker_uncordon", "online", "worker_cordon"),
        ("worker_drain", "draining", None),
    ):
        assert address(worker, name) in page.text
        page = as_root.post(address(worker, name), follow=True)
        worker.refresh_from_db()
        assert worker.state == state and page.redirect_chain == [(address(worker), 302)]
        offers = [button for button in BUTTONS if f'action="{address(worker, button)}"' in page.text]
        assert (offered in offers) if offered else offers == ["worker_drain"]
    assert 'popovertarget="drain">' not in page.text, "the dialog has no button any more"
    assert [entry.verb for entry in AuditEntry.objects.order_by("pk")] == ["cordon", "uncordon", "drain"]
    assert "What was asked of it" in page.text


def test_others_are_offered_no_button_and_refused_when_they_press_one(as_alice, as_charlie, db):
    worker = make_worker()
    page = as_alice.get(address(worker)).text
    assert not [name for name in BUTTONS if address(worker, name) in page] and "What was asked of it" not in page
    for name in BUTTONS:
        assert "message error" in as_alice.post(address(worker, name), follow=True).text
        assert as_charlie.post(address(worker, name)).status_code == 404
        assert as_alice.get(address(worker, name)).status_code == 405
    assert as_charlie.get(address(worker)).status_code == 404
    assert as_alice.get(reverse("console:worker", args=[uuid4()])).status_code == 404
    worker.refresh_from_db()
    assert worker.state == "online" and not AuditEntry.objects.exists()


def test_a_worker_that_has_left_keeps_its_page_without_buttons(as_root):
    worker = make_worker("gone", state="offline", pool=Pool.objects.get(name="default"))
    page = as_root.get(address(worker)).text
    assert "gone" in page and not [name for name in BUTTONS if address(worker, name) in page]
    assert 'hx-trigger="every 2s"' not in page
