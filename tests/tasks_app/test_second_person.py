"""Four eyes: what a rule holds is done by nobody alone, at no door, and is then exactly what was approved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import Model
from django.test import Client

from access_app import approval_rules, approvals, services
from access_app.actors import request_actor, system_actor, user_actor
from access_app.approval_models import ApprovalPolicy, ApprovalRequest
from access_app.errors import InvalidInput, NotFound, PermissionRefused, WrongState
from access_app.models import AuditEntry, Secret
from access_app.roles import grant
from access_app.second_person import OPERATIONS, ApprovalRequired
from tasks_app.models import Project, Run, Schedule, Task
from tasks_app.services import backfills, dependencies, runs, schedules, secrets, tasks
from tests.console_app.factories import make_task
from tests.tasks_app.admin_pages import page as admin_page

NOW = datetime.now(UTC)
SYSTEM = system_actor()


@pytest.fixture
def task(project: Any) -> Task:
    return make_task(project, params={"x": 1})


@pytest.fixture
def dora(project: Any) -> Any:
    """A second administrator of the project."""
    user = get_user_model().objects.create_user("dora", password="correct horse battery")
    grant(user, "admin", project)
    return user


def rule(project: Any = None, tag: str = "", **kinds: bool) -> ApprovalPolicy:
    return approval_rules.create(SYSTEM, project, tag, kinds, now=NOW)


def asked(act: Any, *args: Any, **options: Any) -> ApprovalRequest:
    """The request that comes of a call, which is held."""
    with pytest.raises(ApprovalRequired) as required:
        act(*args, **options, now=NOW)
    return approvals.ask(required.value)


def test_without_a_rule_and_for_the_system_itself_nothing_is_held(alice, project, task):
    rule(Project.objects.create(name="other"), runs=True, edits=True)
    runs.trigger(user_actor(alice), task, runs.Request(), now=NOW)
    rule(project, runs=True, edits=True)
    runs.trigger(SYSTEM, task, runs.Request(), now=NOW)
    tasks.update(SYSTEM, task, {"description": "new"}, now=NOW)
    assert Run.objects.count() == 2 and not ApprovalRequest.objects.exists()


def test_a_run_waits_for_a_second_person_and_is_then_exactly_the_one_that_was_asked_for(alice, bob, project, task):
    rule(project, runs=True)
    wish = runs.Request({"x": 7, "deep": {"~row": ["auth.user", 1], "~at": "no time"}}, priority=80)
    request = asked(runs.trigger, user_actor(alice), task, wish)
    assert not Run.objects.exists() and request.state == "pending" and request.requested_by == alice
    done = approvals.approve(user_actor(bob), request, comment="fine", now=NOW)
    run = Run.objects.get()
    assert (run.params, run.priority) == (wish.params, 80)
    assert (done.state, done.decided_by, done.comment) == ("approved", bob, "fine")
    assert "user alice, approved by user bob" in set(run.events.values_list("actor", flat=True))
    told = list(AuditEntry.objects.filter(verb__in=("ask", "trigger", "approve")).values_list("verb", "actor"))
    assert ("ask", "user alice") in told and ("approve", "user bob") in told
    with pytest.raises(WrongState):
        approvals.approve(user_actor(bob), request, now=NOW)
    assert Run.objects.count() == 1


def test_nobody_approves_what_they_asked_for_by_no_key_and_no_group(alice, project, task):
    rule(project, runs=True)
    group = Group.objects.create(name="admins")
    group.user_set.add(alice)
    grant(group, "admin", project)
    request = asked(runs.trigger, user_actor(alice), task, runs.Request())
    _key, token = services.create_key(SYSTEM, alice, name="other", role="admin", expiry=None, now=NOW)
    for act in (approvals.approve, approvals.deny):
        with pytest.raises(approvals.SelfApproval):
            act(user_actor(alice), request, now=NOW)
    answer = Client(headers={"X-API-Key": token}).post(
        f"/api/approvals/{request.pk}/approve", "{}", content_type="application/json"
    )
    assert answer.status_code == 403 and answer.json()["code"] == "self_approval"
    with pytest.raises(IntegrityError), transaction.atomic():
        ApprovalRequest.objects.filter(pk=request.pk).update(state="approved", decided_by=alice)
    assert not Run.objects.exists()


def test_whoever_could_not_do_it_does_not_approve_it(alice, bob, charlie, project, task):
    rule(project, edits=True)
    request = asked(tasks.update, user_actor(alice), task, {"description": "new"})
    with pytest.raises(PermissionRefused):
        approvals.approve(user_actor(bob), request, now=NOW)
    with pytest.raises(NotFound):
        approvals.approve(user_actor(charlie), request, now=NOW)
    with pytest.raises(approvals.SelfApproval):
        approvals.approve(SYSTEM, request, now=NOW)
    task.refresh_from_db()
    assert task.description == "" and not approvals.waiting_for(user_actor(bob), now=NOW).exists()


def test_an_edit_shows_what_it_would_change_and_is_void_once_the_task_was_changed(alice, dora, project, task):
    rule(project, edits=True)
    first = asked(tasks.update, user_actor(alice), task, {"command": "echo one"})
    second = asked(tasks.update, user_actor(alice), task, {"command": "echo two"})
    (effect,) = first.effects
    assert (effect["before"]["command"], effect["after"]["command"]) == ("echo hello", "echo one")
    approvals.approve(user_actor(dora), first, now=NOW)
    with pytest.raises(approvals.Outdated):
        approvals.approve(user_actor(dora), second, now=NOW)
    second.refresh_from_db()
    task.refresh_from_db()
    assert second.state == "outdated" and task.version is not None and task.version.command == "echo one"
    assert task.version.created_by == alice


def test_what_is_wrong_is_said_when_it_is_asked_for(alice, bob, project, task):
    rule(project, runs=True, edits=True)
    with pytest.raises(InvalidInput):
        tasks.update(user_actor(alice), task, {"timeout_seconds": 0}, now=NOW)
    with pytest.raises(PermissionRefused):
        tasks.update(user_actor(bob), task, {"description": "mine"}, now=NOW)
    assert not ApprovalRequest.objects.exists()


def test_a_request_ends_after_its_time_and_the_same_one_is_not_asked_twice(alice, bob, project, task, settings):
    settings.SCHEDULER_APPROVAL_HOURS = 2
    rule(project, runs=True)
    request = asked(runs.trigger, user_actor(alice), task, runs.Request())
    assert asked(runs.trigger, user_actor(alice), task, runs.Request()) == request
    assert asked(runs.trigger, user_actor(bob), task, runs.Request()) != request
    late = NOW + timedelta(hours=2)
    assert approvals.shown_state(request, late) == "expired"
    with pytest.raises(WrongState):
        approvals.approve(user_actor(bob), request, now=late)
    assert not approvals.waiting_for(user_actor(bob), now=late).exists()
    assert approvals.waiting_for(user_actor(bob), now=NOW).get() == request


def test_the_key_of_a_known_run_gives_that_run_without_asking_again(alice, bob, project, task):
    rule(project, runs=True)
    request = asked(runs.trigger, user_actor(alice), task, runs.Request(idempotency_key="k"))
    approvals.approve(user_actor(bob), request, now=NOW)
    run, created = runs.trigger(user_actor(alice), task, runs.Request(idempotency_key="k"), now=NOW)
    assert run == Run.objects.get() and not created


def test_deny_and_take_back_do_nothing_and_end_it(alice, bob, project, task):
    rule(project, runs=True)
    one = asked(runs.trigger, user_actor(alice), task, runs.Request({"n": 1}))
    two = asked(runs.trigger, user_actor(alice), task, runs.Request({"n": 2}))
    assert approvals.deny(user_actor(bob), one, comment="no", now=NOW).state == "denied"
    with pytest.raises(PermissionRefused):
        approvals.cancel(user_actor(bob), two, now=NOW)
    assert approvals.cancel(user_actor(alice), two, now=NOW).state == "cancelled"
    for request in (one, two):
        with pytest.raises(WrongState):
            approvals.approve(user_actor(bob), request, now=NOW)
    assert not Run.objects.exists()


def test_break_glass_is_for_administrators_with_a_reason_and_listed_until_another_one_reviews_it(
    alice, bob, dora, project, task
):
    rule(project, runs=True)
    request = asked(runs.trigger, user_actor(alice), task, runs.Request())
    with pytest.raises(PermissionRefused):
        approvals.break_glass(user_actor(bob), request, reason="please", now=NOW)
    with pytest.raises(InvalidInput):
        approvals.break_glass(user_actor(alice), request, reason="  ", now=NOW)
    done = approvals.break_glass(user_actor(alice), request, reason="production is down", now=NOW)
    assert Run.objects.count() == 1 and done.break_glass and done.comment == "production is down"
    assert approvals.to_review(user_actor(dora)).get() == done and not approvals.to_review(user_actor(alice)).exists()
    with pytest.raises(approvals.SelfApproval):
        approvals.review(user_actor(alice), done, now=NOW)
    with pytest.raises(PermissionRefused):
        approvals.review(user_actor(bob), done, now=NOW)
    assert approvals.review(user_actor(dora), done, comment="seen", now=NOW).reviewed_by == dora
    assert not approvals.to_review(user_actor(dora)).exists()
    assert AuditEntry.objects.filter(verb="break glass").count() == 1


@pytest.mark.parametrize("change", ["inactive", "no role", "key deleted"])
def test_whoever_asked_must_still_be_who_they_were(alice, bob, dora, project, task, change, rf):
    rule(project, runs=True)
    key, _token = services.create_key(SYSTEM, bob, name="k", role="operator", expiry=None, now=NOW)
    asking = rf.get("/")
    asking.user, asking.auth = bob, key
    request = asked(runs.trigger, request_actor(asking), task, runs.Request())
    if change == "inactive":
        bob.is_active = False
        bob.save(update_fields=["is_active"])
    elif change == "no role":
        grant(bob, "viewer", project)
    else:
        key.delete()
    with pytest.raises((WrongState, PermissionRefused)):
        approvals.approve(user_actor(dora), ApprovalRequest.objects.get(pk=request.pk), now=NOW)
    request.refresh_from_db()
    assert request.state == "pending" and not Run.objects.exists()


def test_a_rule_of_a_tag_holds_the_tasks_with_it_alone_also_where_the_tag_would_be_taken_away(alice, project, task):
    rule(None, "payroll", runs=True, edits=True)
    other = make_task(project, "tagged", tags=["payroll", "eu"])
    runs.trigger(user_actor(alice), task, runs.Request(), now=NOW)
    asked(runs.trigger, user_actor(alice), other, runs.Request())
    asked(tasks.update, user_actor(alice), other, {"tags": []})
    asked(tasks.update, user_actor(alice), task, {"tags": ["payroll"]})
    fields = {"project": project, "name": "new", "executor": "shell", "command": "echo", "tags": ["payroll"]}
    asked(tasks.create, user_actor(alice), fields)
    with pytest.raises(InvalidInput):
        tasks.update(user_actor(alice), task, {"tags": ["a", "a"]}, now=NOW)


def test_every_kind_of_edit_is_held_and_can_be_approved(alice, dora, project, task):
    other, editor, second = make_task(project, "other"), user_actor(alice), user_actor(dora)
    schedule = schedules.create(SYSTEM, task, {"expression": "0 2 * * *"}, now=NOW)
    edge = dependencies.create(SYSTEM, task, other, now=NOW)
    rule(project, edits=True)
    fields = {"project": project, "name": "new", "executor": "shell", "command": "echo"}
    for act, args in (
        (tasks.create, (fields,)),
        (schedules.create, (task, {"expression": "0 3 * * *"})),
        (schedules.update, (schedule, {"note": "changed"})),
        (dependencies.update, (edge, {"condition": "exit_code == 0"})),
        (dependencies.delete, (edge,)),
        (dependencies.create, (other, task)),
        (schedules.delete, (schedule,)),
        (tasks.delete, (other,)),
    ):
        for row in args:
            if isinstance(row, Model):
                row.refresh_from_db()
        assert approvals.approve(second, asked(act, editor, *args), now=NOW).state == "approved", act
    assert Task.objects.filter(name="new").exists() and not Task.objects.filter(name="other").exists()
    assert not Schedule.objects.filter(pk=schedule.pk).exists()


def test_every_kind_of_manual_run_is_held(alice, bob, project, task):
    schedules.create(SYSTEM, task, {"expression": "0 2 * * *"}, now=NOW)
    rule(project, runs=True)
    wish = backfills.Wish(NOW - timedelta(days=3), NOW, params={"x": 2})
    asked(runs.trigger_batch, user_actor(alice), task, [runs.Request({"n": 1}), runs.Request({"n": 2})])
    request = asked(backfills.plan, user_actor(alice), task, wish)
    assert not Run.objects.exists()
    approvals.approve(user_actor(bob), request, now=NOW)
    assert Run.objects.filter(backfill__isnull=False).count() >= 2
    held = {"runs.rerun", "runs.rerun_failed", "runs.release", "runs.trigger", "runs.trigger_batch", "backfills.plan"}
    assert held <= OPERATIONS.keys()


def test_the_value_of_a_secret_is_kept_sealed_shown_to_nobody_and_wiped(alice, dora, project):
    rule(project, secrets=True)
    fields = {"project": project, "name": "TOKEN", "value": "hunter2 hunter2"}
    request = asked(secrets.create, user_actor(alice), fields)
    row = str(list(ApprovalRequest.objects.values()))
    assert "hunter2" not in row and not Secret.objects.exists()
    client = Client()
    client.force_login(dora)
    assert "hunter2" not in client.get(f"/api/approvals/{request.pk}").content.decode()
    assert "hunter2" not in client.get(f"/approvals/{request.pk}/").content.decode()
    approvals.approve(user_actor(dora), request, now=NOW)
    request.refresh_from_db()
    assert request.payload == {} and Secret.objects.get().name == "TOKEN"


def test_a_rule_is_taken_away_by_two_and_made_by_one(alice, bob, dora, project):
    with pytest.raises(PermissionRefused):
        approval_rules.create(user_actor(bob), project, "", {"runs": True}, now=NOW)
    with pytest.raises(PermissionRefused):
        approval_rules.create(user_actor(alice), None, "payroll", {"runs": True}, now=NOW)
    made = approval_rules.create(user_actor(alice), project, "", {"runs": True}, now=NOW)
    request = asked(approval_rules.delete, user_actor(alice), made)
    assert ApprovalPolicy.objects.exists()
    approvals.approve(user_actor(dora), request, now=NOW)
    assert not ApprovalPolicy.objects.exists()


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_the_api_answers_202_with_the_request_and_the_console_leads_to_it(alice, bob, project, task):
    rule(project, runs=True, edits=True)
    _key, token = services.create_key(SYSTEM, alice, name="k", role="admin", expiry=None, now=NOW)
    api = Client(headers={"X-API-Key": token})
    answer = api.post(f"/api/tasks/{task.pk}/trigger", {"params": {"n": 1}}, content_type="application/json")
    assert answer.status_code == 202 and answer.json()["code"] == "approval_required"
    request = ApprovalRequest.objects.get()
    assert answer.json()["approval"] == request.pk and api.get(answer.json()["url"]).json()["state"] == "pending"
    page = client_of(alice).post(f"/tasks/{task.pk}/run", {"params": '{"n": 2}'})
    assert page["Location"] == f"/approvals/{ApprovalRequest.objects.latest('pk').pk}/"
    second = client_of(bob)
    assert "Exactly what was asked for" in second.get(f"/approvals/{request.pk}/").text
    assert second.post(f"/approvals/{request.pk}/approve", {"comment": "ok"}).status_code == 302
    assert Run.objects.get().params["n"] == 1
    rows = second.get("/approvals/").context["rows"]
    assert [row["state"] for row in rows] == ["pending"] and '<span class="tag warn">1</span>' in second.get("/").text


def test_the_admin_asks_too_by_form_by_action_and_by_deleting_many(alice, project, task):
    from django.contrib.auth.models import Permission

    other = make_task(project, "other")
    rule(project, runs=True, edits=True)
    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    alice.user_permissions.set(Permission.objects.filter(content_type__app_label="tasks_app"))
    admin = client_of(alice)
    chosen = {"_selected_action": [task.pk, other.pk]}
    admin.post(admin_page(Task, "changelist"), {"action": "run_now", **chosen})
    assert ApprovalRequest.objects.filter(operation="runs.trigger").count() == 2
    admin.post(admin_page(Task, "changelist"), {"action": "delete_selected", "post": "yes", **chosen})
    assert ApprovalRequest.objects.filter(operation="tasks.delete").count() == 2
    admin.post(admin_page(Task, "delete", task.pk), {"post": "yes"})
    assert not Run.objects.exists() and Task.objects.filter(project=project).count() == 2
