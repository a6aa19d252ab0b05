"""Who may see and press what."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from access_app.actors import Actor
from access_app.roles import Role, Verb, allows, grant, project_ids_with, role_in
from tasks_app.models import Project, Run, Schedule
from tasks_app.services import schedules
from tasks_app.states import RunState
from tests.console_app.factories import make_run, make_task

PAGES = (
    "overview",
    "runs",
    "tasks",
    "task_new",
    "workers",
    "limits",
    "schedule_preview",
    "calendars",
    "calendar_new",
)
OBJECT_PAGES = ("task", "task_edit", "schedule_new", "run", "run_log", "run_log_text", "schedule_edit", "fires")
BUTTONS = ("task_run", "task_pause", "task_resume", "task_delete")
RUN_BUTTONS = ("run_cancel", "run_terminate", "run_rerun", "run_hold", "run_unhold")


@pytest.fixture
def schedule(task, alice) -> Schedule:
    from django.utils import timezone

    from access_app.actors import user_actor

    return schedules.create(user_actor(alice), task, {"kind": "cron", "expression": "0 2 * * *"}, now=timezone.now())


@pytest.mark.parametrize("name", PAGES)
def test_an_anonymous_reader_is_sent_to_sign_in_and_back(client, db, name):
    address = reverse(f"console:{name}")
    response = client.get(f"{address}?state=failed")
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("console:sign_in"))
    assert response["Location"].endswith(f"next={address}%3Fstate%3Dfailed".replace("/", "/"))


def test_an_anonymous_poll_is_told_to_leave_the_page_instead_of_swapping_the_form_in(client, db):
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/?state=failed"}
    response = client.get("/runs/?state=failed", headers=headers)
    assert response.status_code == 401
    assert response["HX-Redirect"] == f"{reverse('console:sign_in')}?next=%2Fruns%2F%3Fstate%3Dfailed"
    assert response.content == b""


def test_nothing_moves_for_an_anonymous_press(client, task):
    response = client.post(reverse("console:task_run", args=[task.pk]))
    assert response.status_code == 302
    assert reverse("console:sign_in") in response["Location"]
    assert Run.objects.count() == 0


def test_a_stranger_finds_no_foreign_object_on_any_page_or_button(as_charlie, task, schedule):
    run = make_run(task, RunState.RUNNING)
    keys = {"run": run.pk, "schedule": schedule.pk, "task": task.pk}
    for name in OBJECT_PAGES:
        pk = keys["schedule" if name == "schedule_edit" else "run" if name.startswith("run") else "task"]
        assert as_charlie.get(reverse(f"console:{name}", args=[pk])).status_code == 404, name
    for name in (*BUTTONS, *RUN_BUTTONS, "schedule_delete"):
        pk = keys["schedule" if name.startswith("schedule") else "run" if name.startswith("run") else "task"]
        assert as_charlie.post(reverse(f"console:{name}", args=[pk])).status_code == 404, name
    assert Run.objects.get().cancel_requested_at is None


def test_a_stranger_sees_no_foreign_name_or_count_in_any_list(as_charlie, task):
    make_run(task, RunState.FAILED)
    for name in ("overview", "runs", "tasks", "workers", "limits"):
        page = as_charlie.get(reverse(f"console:{name}"))
        assert page.status_code == 200
        assert "extract" not in page.text
    assert "Nothing has failed." in as_charlie.get("/").text


def test_an_object_that_is_not_there_is_a_404_even_for_impossible_keys(as_alice):
    for pk in (10**6, 2**63, 10**30):
        assert as_alice.get(f"/tasks/{pk}/").status_code == 404
        assert as_alice.get(f"/runs/{pk}/").status_code == 404


def test_an_operator_is_offered_to_run_and_pause_but_not_to_edit(as_bob, task):
    page = as_bob.get(f"/tasks/{task.pk}/").text
    assert "Run now" in page
    assert reverse("console:task_pause", args=[task.pk]) in page
    assert reverse("console:task_edit", args=[task.pk]) not in page


def test_an_operator_who_forces_an_edit_is_refused_and_nothing_changes(as_bob, task, schedule):
    assert as_bob.get(f"/tasks/{task.pk}/edit").status_code == 403
    assert as_bob.post(f"/tasks/{task.pk}/edit", {"name": "mine"}).status_code == 403
    assert as_bob.get("/tasks/new").status_code == 403
    assert as_bob.post(f"/tasks/{task.pk}/schedules/new", {"kind": "cron"}).status_code == 403
    task.refresh_from_db()
    assert task.name == "extract"


def test_a_refused_button_says_so_on_the_page_it_belongs_to(as_bob, schedule):
    task = schedule.task
    response = as_bob.post(reverse("console:task_delete", args=[task.pk]))
    assert response.status_code == 302
    task.refresh_from_db()
    response = as_bob.get(f"/tasks/{task.pk}/")
    assert "Your role does not allow this" in response.text


@pytest.mark.parametrize("name", [*BUTTONS, *RUN_BUTTONS])
def test_a_button_is_pressed_by_post_only(as_alice, task, name):
    make_run(task)
    key = Run.objects.get().pk if name.startswith("run") else task.pk
    assert as_alice.get(reverse(f"console:{name}", args=[key])).status_code == 405
    assert Run.objects.count() == 1


def test_a_press_without_the_token_is_refused(alice, task):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post(f"/tasks/{task.pk}/run").status_code == 403
    assert Run.objects.count() == 0


def test_every_page_carries_the_token_for_htmx_and_a_strict_policy(as_alice, task):
    page = as_alice.get(f"/tasks/{task.pk}/")
    assert 'hx-headers:inherited=\'{"x-csrftoken": "' in page.text
    policy = page["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "no-store" in page["Cache-Control"] or "no-cache" in page["Cache-Control"]


def test_signing_in_leads_to_the_wished_page_but_never_to_a_foreign_site(client, alice):
    form = {"username": "alice", "password": "correct horse battery"}
    assert client.post("/sign-in/", {**form, "next": "/runs/"})["Location"] == "/runs/"
    client.logout()
    assert client.post("/sign-in/", {**form, "next": "https://evil.example/"})["Location"] == "/"


def test_a_wrong_password_is_said_in_place_and_signs_nobody_in(client, alice):
    page = client.post("/sign-in/", {"username": "alice", "password": "wrong"})
    assert page.status_code == 200
    assert 'role="alert"' in page.text
    assert "_auth_user_id" not in client.session


def test_signing_out_needs_a_post_and_ends_the_session(as_alice):
    assert as_alice.get("/sign-out/").status_code == 405
    assert as_alice.post("/sign-out/")["Location"] == "/sign-in/"
    assert as_alice.get("/").status_code == 302


def test_tasks_of_another_project_stay_out_of_the_list_of_a_member(as_alice, task):
    from tasks_app.models import Project

    make_task(Project.objects.create(name="secret"), "classified")
    page = as_alice.get("/tasks/").text
    assert "extract" in page
    assert "classified" not in page


@pytest.mark.parametrize(("address", "role"), [("/tasks/", "operator"), ("/tasks/new", "editor")])
def test_the_number_of_queries_does_not_grow_with_the_projects(as_bob, bob, task, address, role):
    def queries():
        with CaptureQueriesContext(connection) as found:
            assert as_bob.get(address).status_code == 200
        return len(found)

    _join(bob, role, 1)
    few = queries()
    _join(bob, role, 25)
    assert queries() == few


def test_the_first_page_offers_a_new_task_only_to_whoever_may_make_one(as_bob, bob):
    _join(bob, "operator", 1)
    first = as_bob.get("/").text
    assert "No task yet" in first and "New task" not in first
    _join(bob, "editor", 1)
    assert "New task" in as_bob.get("/").text


def test_a_task_can_be_created_in_any_project_that_one_edits_however_many_one_only_sees(as_bob, bob, task):
    _join(bob, "operator", 25)
    assert "New task" not in as_bob.get("/tasks/").text
    (mine,) = _join(bob, "editor", 1)
    assert "New task" in as_bob.get("/tasks/").text
    assert list(as_bob.get("/tasks/new").context["form"].fields["project"].queryset) == [mine]


@pytest.mark.parametrize("cap", [None, *Role.values])
@pytest.mark.parametrize("verb", list(Verb))
def test_the_projects_with_a_verb_are_those_in_which_each_check_allows_it(alice, bob, root_user, project, verb, cap):
    for role in Role.values:
        _join(bob, role, 1)
    everything = list(Project.objects.values_list("pk", flat=True))
    for user in (alice, bob, root_user, None):
        found = project_ids_with(Actor("somebody", user=user, role_cap=cap), verb)
        checked = Actor("somebody", user=user, role_cap=cap)
        allowed = [pk for pk in everything if allows(role_in(checked, pk), verb)]
        assert sorted(everything if found is None else found) == sorted(allowed)


def _join(user, role, count):
    made = [Project.objects.create(name=f"project {Project.objects.count():03}") for _ in range(count)]
    for one in made:
        grant(user, role, one)
    return made
