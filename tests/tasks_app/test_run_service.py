"""Runs: trigger, cancel, terminate, rerun, hold; and what of it is refused, to whom and at which field."""

from __future__ import annotations

from typing import Any

import pytest

from access_app.actors import system_actor, user_actor
from access_app.models import AuditEntry
from access_app.roles import grant
from tasks_app.errors import BatchTooLarge, InvalidInput, NotFound, PermissionRefused, WrongState
from tasks_app.models import Run
from tasks_app.services import runs
from tasks_app.services.runs import Request
from tasks_app.states import TERMINAL, RunState
from tests.tasks_app.making import NOW, bring, depend, later, make_task, member, plan, start, state_of

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


def run_in(state: RunState, **fields: Any) -> Run:
    (id,) = plan(make_task(**fields))
    bring(id, state)
    return Run.objects.select_related("task").get(pk=id)


def refused(call: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        call()
    return caught.value.errors


# Trigger


def test_a_trigger_plans_a_run_of_the_current_version_now(project, bob):
    task = make_task(project=project)
    run, new = runs.trigger(user_actor(bob), task, Request(params={"x": 1}, priority=80), now=NOW)
    assert new
    assert (run.task, run.version, run.run_type, run.state) == (task, task.version, "manual", "waiting")
    assert (run.params, run.priority, run.due_at, run.nominal_at) == ({"x": 1}, 80, NOW, None)
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.verb, entry.after) == ("user bob", "trigger", {"runs": [run.pk], "created": 1})


def test_a_time_to_wait_for_is_kept_and_one_in_the_past_is_now():
    task = make_task()
    assert runs.trigger(SYSTEM, task, Request(not_before=later(hours=1)), now=NOW)[0].due_at == later(hours=1)
    assert runs.trigger(SYSTEM, task, Request(not_before=later(hours=-1)), now=NOW)[0].due_at == NOW


def test_the_same_key_gives_the_same_run():
    task, other = make_task(), make_task()
    first, new = runs.trigger(SYSTEM, task, Request(idempotency_key="k"), now=NOW)
    again, new_again = runs.trigger(SYSTEM, task, Request(idempotency_key="k", params={"x": 1}), now=later(days=9))
    elsewhere, new_elsewhere = runs.trigger(SYSTEM, other, Request(idempotency_key="k"), now=NOW)
    assert (new, new_again, new_elsewhere) == (True, False, True)
    assert first.pk == again.pk != elsewhere.pk
    assert Run.objects.get(pk=first.pk).params == {}


def test_a_batch_answers_in_the_order_of_its_items():
    task = make_task()
    old, _new = runs.trigger(SYSTEM, task, Request(idempotency_key="old"), now=NOW)
    keys = ["a", None, "old", "a", "b", None]
    items = [Request(params={"n": n}, idempotency_key=key) for n, key in enumerate(keys)]
    ids, created = runs.trigger_batch(SYSTEM, task, items, now=NOW)
    assert (created, len(set(ids)), ids[3], ids[2]) == (4, 5, ids[0], old.pk)
    params = dict(Run.objects.values_list("pk", "params"))
    assert [params[ids[place]]["n"] for place in (0, 1, 4, 5)] == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Request(params=[]), "params"),  # type: ignore[arg-type]
        (Request(params={"1x": 1}), "params"),
        (Request(params={"x": "a\x00"}), "params"),
        (Request(priority=101), "priority"),
        (Request(priority=-1), "priority"),
        (Request(idempotency_key=""), "idempotency_key"),
        (Request(idempotency_key="x" * 201), "idempotency_key"),
        (Request(idempotency_key="a\x00"), "idempotency_key"),
        (Request(not_before=later(days=4000)), "not_before"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_in_a_batch_at_its_item(request_, field):
    task = make_task(executor="shell", command="true")
    assert set(refused(lambda: runs.trigger(SYSTEM, task, request_, now=NOW))) == {field}
    for place in (0, 1):
        items = [Request(), Request()]
        items[place] = request_
        found = refused(lambda items=items: runs.trigger_batch(SYSTEM, task, items, now=NOW))
        assert set(found) == {f"items[{place}].{field}"}
    assert not Run.objects.exists() and not AuditEntry.objects.exists()


def test_parameters_are_judged_with_those_of_the_task():
    task = make_task(executor="http", command="https://example.com", params={"method": "POST"})
    assert runs.trigger(SYSTEM, task, Request(params={"headers": {"a": "b"}}), now=NOW)[1]
    assert set(refused(lambda: runs.trigger(SYSTEM, task, Request(params={"colour": "red"}), now=NOW))) == {"params"}


def test_a_batch_has_one_to_ten_thousand_items():
    task = make_task()
    assert set(refused(lambda: runs.trigger_batch(SYSTEM, task, [], now=NOW))) == {"items"}
    with pytest.raises(BatchTooLarge):
        runs.trigger_batch(SYSTEM, task, [Request()] * 10_001, now=NOW)
    assert not Run.objects.exists()
    ids, created = runs.trigger_batch(SYSTEM, task, [Request()] * 10_000, now=NOW)
    assert created == len(set(ids)) == Run.objects.count() == 10_000


@pytest.mark.parametrize(
    ("role", "expected"), [(None, NotFound), ("viewer", PermissionRefused), ("operator", None), ("editor", None)]
)
def test_only_a_role_that_may_run_does(project, django_user_model, role, expected):
    user = django_user_model.objects.create_user("somebody")
    if role is not None:
        grant(user, role, project)
    actor = user_actor(user)
    task = make_task(project=project)
    (waiting,) = Run.objects.filter(pk__in=plan(task)).select_related("task")
    (over,) = plan(task)
    bring(over, RunState.FAILED)
    ended = Run.objects.select_related("task").get(pk=over)
    before = list(Run.objects.order_by("pk").values())
    for call in (
        lambda: runs.trigger(actor, task, Request(), now=NOW),
        lambda: runs.trigger_batch(actor, task, [Request()], now=NOW),
        lambda: runs.rerun(actor, ended, now=NOW),
        lambda: runs.hold(actor, waiting, now=NOW),
        lambda: runs.unhold(actor, waiting, now=NOW),
        lambda: runs.cancel(actor, waiting, now=NOW),
    ):
        if expected is None:
            call()
        else:
            with pytest.raises(expected):
                call()
    if expected is not None:
        assert list(Run.objects.order_by("pk").values()) == before
        assert not AuditEntry.objects.exists()
    else:
        assert [e.verb for e in AuditEntry.objects.order_by("id")] == [
            "trigger", "trigger", "rerun", "hold", "unhold", "cancel",
        ]  # fmt: skip


# Cancel


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.QUEUED])
def test_a_run_that_has_not_started_is_cancelled_at_once(state):
    run, other = run_in(state), run_in(state)
    assert runs.cancel(SYSTEM, run, now=NOW).state == RunState.CANCELLED
    assert (run.reason, run.cancel_requested_at, run.finished_at) == ("cancel_requested", NOW, NOW)
    assert state_of(other.pk) == state


def test_a_running_run_is_asked_to_end_and_asking_again_changes_nothing():
    run = run_in(RunState.RUNNING)
    assert runs.cancel(SYSTEM, run, now=NOW).state == RunState.RUNNING
    assert run.cancel_requested_at == NOW
    runs.cancel(SYSTEM, run, now=later(seconds=9))
    assert Run.objects.get(pk=run.pk).cancel_requested_at == NOW


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_run_that_is_over_cannot_be_cancelled(state):
    run = run_in(state)
    with pytest.raises(WrongState, match=str(state)):
        runs.cancel(SYSTEM, run, now=NOW)
    assert state_of(run.pk) == state
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.QUEUED])
def test_a_run_that_has_not_started_needs_no_killing(state):
    run = run_in(state)
    assert runs.terminate(SYSTEM, run, now=NOW).state == RunState.CANCELLED
    assert (run.cancel_requested_at, run.terminate_requested_at) == (NOW, None)


def test_a_running_run_is_asked_to_be_killed_also_while_a_cancel_waits_out_its_grace():
    run, fresh, other = (run_in(RunState.RUNNING) for _ in range(3))
    runs.cancel(SYSTEM, run, now=NOW)
    for one in (run, fresh):
        assert runs.terminate(SYSTEM, one, now=later(seconds=5)).state == RunState.RUNNING
        runs.terminate(SYSTEM, one, now=later(seconds=9))
    assert [
        Run.objects.values_list("cancel_requested_at", "terminate_requested_at").get(pk=one.pk)
        for one in (run, fresh, other)
    ] == [(NOW, later(seconds=5)), (later(seconds=5), later(seconds=5)), (None, None)]
    assert [entry.verb for entry in AuditEntry.objects.order_by("id")] == ["cancel"] + ["terminate"] * 4


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_run_that_is_over_cannot_be_killed(state):
    run = run_in(state)
    with pytest.raises(WrongState, match=str(state)):
        runs.terminate(SYSTEM, run, now=NOW)
    assert Run.objects.get(pk=run.pk).terminate_requested_at is None


# Concurrency key


def test_the_key_of_a_run_is_made_of_its_parameters_and_the_tasks():
    task = make_task(params={"region": "eu", "shop": 1}, concurrency_key="{{ params.region }}/{{ params.shop }}")
    keys = [runs.trigger(SYSTEM, task, Request(params=p), now=NOW)[0].concurrency_key for p in ({}, {"region": "us"})]
    assert keys == ["eu/1", "us/1"]


def test_a_run_whose_key_cannot_be_made_is_refused_at_its_parameters():
    task, other = make_task(concurrency_key="{{ params.region }}"), make_task()
    assert "params.region" in refused(lambda: runs.trigger(SYSTEM, task, Request(), now=NOW))["params"][0]
    for value in ("", "x" * 201, None, {"a": 1}):
        assert "params" in refused(lambda v=value: runs.trigger(SYSTEM, task, Request(params={"region": v}), now=NOW))
    items = [Request(params={"region": "eu"}), Request()]
    assert list(refused(lambda: runs.trigger_batch(SYSTEM, task, items, now=NOW))) == ["items[1].params"]
    assert not Run.objects.exists()
    assert runs.trigger(SYSTEM, other, Request(), now=NOW)[0].concurrency_key == ""


# Rerun


@pytest.mark.parametrize("state", list(RunState))
def test_a_run_that_is_over_can_be_run_again_as_a_new_one(state):
    run = run_in(state)
    Run.objects.filter(pk=run.pk).update(params={"x": 1})
    run.refresh_from_db()
    if state not in TERMINAL:
        with pytest.raises(WrongState):
            runs.rerun(SYSTEM, run, now=NOW)
        assert Run.objects.count() == 1
        return
    again = runs.rerun(SYSTEM, run, now=later(hours=1))
    assert (again.state, again.run_type, again.rerun_of_id, again.params) == ("waiting", "rerun", run.pk, {"x": 1})
    assert (again.attempt, again.due_at) == (1, later(hours=1))
    assert state_of(run.pk) == state


def test_a_rerun_plans_what_is_downstream_now():
    up, down = make_task(), make_task()
    (id,) = plan(up)
    bring(id, RunState.FAILED)
    depend(up, down)
    again = runs.rerun(SYSTEM, Run.objects.get(pk=id), now=NOW)
    assert member(again.pk, down).state == RunState.WAITING


# Hold


def test_a_waiting_run_can_be_held_and_let_go():
    run, other = run_in(RunState.WAITING), run_in(RunState.WAITING)
    assert runs.hold(SYSTEM, run, now=NOW).held
    assert not Run.objects.get(pk=other.pk).held
    assert not runs.unhold(SYSTEM, run, now=NOW).held


@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.WAITING}))
def test_a_run_that_waits_no_more_cannot_be_held(state):
    run = run_in(state)
    with pytest.raises(WrongState, match="only a waiting run"):
        runs.hold(SYSTEM, run, now=NOW)
    assert not Run.objects.get(pk=run.pk).held


def test_a_stale_picture_of_a_run_does_not_decide():
    run = run_in(RunState.WAITING)
    start(run.pk)
    with pytest.raises(WrongState):
        runs.hold(SYSTEM, run, now=NOW)
    stale = Run.objects.get(pk=run.pk)
    stale.state = RunState.WAITING.value
    assert runs.cancel(SYSTEM, stale, now=NOW).state == RunState.RUNNING


@pytest.mark.parametrize("verb", [runs.cancel, runs.terminate, runs.hold, runs.unhold])
def test_a_run_that_was_deleted_meanwhile_is_not_found(verb):
    held = run_in(RunState.WAITING)
    Run.objects.filter(pk=held.pk).delete()
    with pytest.raises(NotFound):
        verb(SYSTEM, held, now=NOW)
    assert not AuditEntry.objects.exists()
