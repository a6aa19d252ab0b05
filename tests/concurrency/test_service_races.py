"""People and programs at the same moment as each other, as dispatchers and as workers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from access_app.actors import system_actor
from access_app.services import create_key
from dispatcher_app.firing import fire_due
from tasks_app import transitions
from tasks_app.errors import DependencyCycle, NotFound, StaleEdit, WrongState
from tasks_app.models import Run, Schedule, Task, TaskDependency
from tasks_app.moves import Outcome
from tasks_app.services import dependencies, reruns, runs, schedules, tasks
from tasks_app.states import RunState
from tests.api.client import Api
from tests.tasks_app.making import (
    ACTOR,
    ANSWERED,
    NOW,
    bring,
    depend,
    enqueue,
    events_of,
    make_schedule,
    make_task,
    plan,
    start,
    state_of,
)

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
SYSTEM = system_actor()


def cancel(id: int) -> str:
    return runs.cancel(SYSTEM, Run.objects.get(pk=id), now=NOW).state


def claim(id: int) -> list[int]:
    return [run.id for run in transitions.claim([(id, 1)], worker_id=ANSWERED, now=NOW, actor=ACTOR)]


def retry(id: int) -> set[int]:
    failed = [Outcome(id, 1, RunState.WAITING)]
    return transitions.finish(failed, worker_id=ANSWERED, now=NOW, actor=ACTOR)


# Cancel


def test_nothing_starts_after_a_cancel_commits(hold, blocked):
    (id,) = plan(make_task())
    enqueue(id)
    first = hold(lambda: cancel(id))
    second = blocked(lambda: claim(id))
    assert first.commit() == RunState.CANCELLED
    assert second.result(20) == []
    assert (state_of(id), events_of(id)[-1]) == (RunState.CANCELLED, ("queued", "cancelled", 1))


def test_a_cancel_that_comes_after_the_claim_asks_the_worker(hold, blocked):
    (id,) = plan(make_task())
    enqueue(id)
    first = hold(lambda: claim(id))
    second = blocked(lambda: cancel(id))
    assert first.commit() == [id]
    assert second.result(20) == RunState.RUNNING
    assert Run.objects.get(pk=id).cancel_requested_at == NOW


def test_a_cancel_that_meets_a_retry_cancels_the_next_attempt(hold, blocked):
    (id,) = plan(make_task())
    start(id)
    first = hold(lambda: retry(id))
    second = blocked(lambda: cancel(id))
    assert first.commit() == {id}
    assert second.result(20) == RunState.CANCELLED


def test_a_retry_that_meets_a_cancel_does_not_come_about(hold, blocked):
    (id,) = plan(make_task())
    start(id)
    first = hold(lambda: cancel(id))
    second = blocked(lambda: retry(id))
    assert first.commit() == RunState.RUNNING
    assert second.result(20) == {id}
    assert (state_of(id), Run.objects.get(pk=id).attempt) == (RunState.CANCELLED, 1)


def test_a_pack_is_claimed_by_one_of_two_workers(together):
    ids = plan(make_task(), 50)
    enqueue(*ids)
    pairs = [(id, 1) for id in ids]
    answers = together(
        *[lambda: transitions.claim(pairs, worker_id=ANSWERED, now=NOW, actor=ACTOR)] * 3,
    )
    assert sorted(run.id for answer in answers for run in answer) == ids
    assert all(len(events_of(id)) == 3 for id in ids)


# Edits


def test_two_edges_that_are_each_harmless_cannot_close_a_cycle(hold, blocked):
    a, b, c = make_task("a"), make_task("b"), make_task("c")
    dependencies.create(SYSTEM, a, b, now=NOW)
    first = hold(lambda: dependencies.create(SYSTEM, b, c, now=NOW))
    second = blocked(lambda: dependencies.create(SYSTEM, c, a, now=NOW))
    first.commit()
    with pytest.raises(DependencyCycle) as caught:
        second.result(20)
    path = caught.value.details["path"]
    assert set(path) == {"a", "b", "c"} and path[0] == path[-1] and len(path) == 4
    assert TaskDependency.objects.count() == 2


def test_two_edits_of_edges_by_period_cannot_close_a_cycle(hold, blocked):
    a, b = make_task("a"), make_task("b")
    back = {"period": "day", "period_back": 1}
    there = dependencies.create(SYSTEM, a, b, back, now=NOW)
    again = dependencies.create(SYSTEM, b, a, back, now=NOW)
    first = hold(lambda: dependencies.update(SYSTEM, there, {"period_back": 0}, now=NOW))
    second = blocked(lambda: dependencies.update(SYSTEM, again, {"period": "", "period_back": 0}, now=NOW))
    first.commit()
    with pytest.raises(DependencyCycle):
        second.result(20)
    again.refresh_from_db()
    assert (again.period, again.period_back) == ("day", 1)


def test_an_edit_of_an_edge_and_a_new_edge_cannot_close_a_cycle(hold, blocked):
    a, b, c = make_task("a"), make_task("b"), make_task("c")
    dependencies.create(SYSTEM, a, b, now=NOW)
    back = dependencies.create(SYSTEM, c, a, {"period": "day", "period_back": 1}, now=NOW)
    first = hold(lambda: dependencies.create(SYSTEM, b, c, now=NOW))
    second = blocked(lambda: dependencies.update(SYSTEM, back, {"period_back": 0}, now=NOW))
    first.commit()
    with pytest.raises(DependencyCycle) as caught:
        second.result(20)
    assert set(caught.value.details["path"]) == {"a", "b", "c"}


def test_of_two_edits_with_the_same_etag_one_is_stale(hold, blocked):
    task = make_task("a")
    seen = tasks.etag(task)
    first = hold(lambda: tasks.update(SYSTEM, task, {"description": "one"}, now=NOW, expected=seen))
    second = blocked(lambda: tasks.update(SYSTEM, task, {"command": "x.y"}, now=NOW, expected=seen))
    first.commit()
    with pytest.raises(StaleEdit):
        second.result(20)
    fresh = Task.objects.select_related("version").get(pk=task.pk)
    assert (fresh.description, fresh.versions.count()) == ("one", 1)


def test_the_same_idempotency_key_from_many_at_once_is_one_run(together):
    task = make_task()
    request = runs.Request(idempotency_key="k")
    answers = together(*[lambda: runs.trigger(SYSTEM, task, request, now=NOW)] * 4)
    assert len({run.pk for run, _new in answers}) == Run.objects.count() == 1
    assert sorted(new for _run, new in answers) == [False, False, False, True]


def batch(task: Task, *keys: str) -> list[int]:
    return runs.trigger_batch(SYSTEM, task, [runs.Request(idempotency_key=key) for key in keys], now=NOW)[0]


def test_a_key_that_another_is_about_to_commit_is_waited_for_and_gives_its_run(hold, blocked):
    task = make_task()
    first = hold(lambda: runs.trigger(SYSTEM, task, runs.Request(idempotency_key="k"), now=NOW))
    second = blocked(lambda: runs.trigger(SYSTEM, task, runs.Request(idempotency_key="k"), now=NOW))
    run, new = first.commit()
    again, new_again = second.result(20)
    assert (again.pk, new, new_again) == (run.pk, True, False)
    assert Run.objects.count() == 1


def deleting(second_connection: Any, id: int, before: str) -> Any:
    """Around calls: a run is deleted by somebody else at the moment before the first statement with this text."""
    left = [id]

    def meanwhile(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if left and before in sql:
            for table, column in (("runevent", "run_id"), ("run", "id")):
                second_connection.execute(f"DELETE FROM tasks_app_{table} WHERE {column} = %s", [left[0]])
            second_connection.commit()
            left.clear()
        return execute(sql, params, many, context)

    return connection.execute_wrapper(meanwhile)


KEY_LOOKED_UP, RUN_READ = '"idempotency_key" IN', 'JOIN "tasks_app_taskversion"'


def test_a_key_whose_run_is_deleted_before_it_is_found_gives_a_new_run(second_connection):
    task = make_task()
    old = batch(task, "a", "b")
    with deleting(second_connection, old[0], before=KEY_LOOKED_UP):
        run, new = runs.trigger(SYSTEM, task, runs.Request(idempotency_key="a"), now=NOW)
    assert new and run.pk not in old and Run.objects.count() == 2
    with deleting(second_connection, run.pk, before=KEY_LOOKED_UP):
        items = [runs.Request(idempotency_key=key) for key in ("c", "b", "a")]
        ids, created = runs.trigger_batch(SYSTEM, task, items, now=NOW)
    assert (ids[1], created, Run.objects.count()) == (old[1], 2, 3)
    assert dict(Run.objects.values_list("idempotency_key", "pk")) == dict(zip("cba", ids, strict=True))


def test_a_run_that_is_deleted_before_its_trigger_has_answered_is_not_found(second_connection):
    task = make_task()
    (old,) = batch(task, "a")
    with deleting(second_connection, old, before=RUN_READ), pytest.raises(NotFound):
        runs.trigger(SYSTEM, task, runs.Request(idempotency_key="a"), now=NOW)
    assert runs.trigger(SYSTEM, task, runs.Request(idempotency_key="a"), now=NOW)[1]


def test_a_run_that_is_deleted_before_it_is_run_again_is_not_found(second_connection):
    task = make_task()
    old, kept = (Run.objects.select_related("task").get(pk=id) for id in batch(task, "a", "b"))
    for run in (old, kept):
        bring(run.pk, RunState.SUCCEEDED)
        run.refresh_from_db()
    with deleting(second_connection, old.pk, before="FOR NO KEY UPDATE"), pytest.raises(NotFound):
        runs.rerun(SYSTEM, old, now=NOW)
    assert runs.rerun(SYSTEM, kept, now=NOW).rerun_of_id == kept.pk


def test_batches_of_the_same_keys_in_another_order_do_not_wait_in_a_circle(hold, blocked, in_thread):
    task = make_task()
    first = hold(lambda: batch(task, "b"))
    second = blocked(lambda: batch(task, "c", "b"))
    # The second waits for b and holds no c: whoever has b may still take c.
    (c,) = in_thread(lambda: batch(task, "c")).result(20)
    (b,) = first.commit()
    assert second.result(20) == [c, b]
    assert Run.objects.count() == 2


def test_the_same_batch_over_the_api_from_several_connections_is_made_once(root_user, together):
    task = make_task()
    _key, token = create_key(SYSTEM, root_user, name="tests", role="admin", expiry=None, now=datetime.now(UTC))
    path = f"/api/tasks/{task.pk}/trigger-batch"

    def send() -> Any:
        return Api(token).post(path, {"items": [{}] * 50}, headers={"Idempotency-Key": "k"})

    answers = together(*[send] * 4)
    assert [answer.status_code for answer in answers] == [201] * 4
    assert sorted(answer.json()["created"] for answer in answers) == [0, 0, 0, 50]
    assert Run.objects.count() == 50


# Edits against firing


def test_an_edit_of_a_schedule_and_its_firing_do_not_wait_in_a_circle(hold, blocked):
    task = make_task("old name")
    schedule = make_schedule(task, after=NOW - timedelta(minutes=1))
    firing = hold(lambda: fire_due(NOW, actor=ACTOR).runs)
    edit = blocked(lambda: tasks.update(SYSTEM, task, {"name": "new name", "schedule": "0 * * * *"}, now=NOW))
    assert firing.commit() == 1
    assert edit.result(20).name == "new name"
    assert Schedule.objects.get(pk=schedule.pk).expression == "0 * * * *"
    assert Run.objects.count() == 1


def test_runs_are_planned_while_the_task_is_being_edited(hold):
    task = make_task()
    edit = hold(lambda: tasks.update(SYSTEM, task, {"description": "new"}, now=NOW))
    run, new = runs.trigger(SYSTEM, task, runs.Request(), now=NOW)
    assert new and state_of(run.pk) == RunState.WAITING
    edit.commit()


def test_a_task_that_fires_while_it_is_deleted_is_deleted_with_its_run(hold, blocked):
    task = make_task()
    make_schedule(task, after=NOW - timedelta(minutes=1))
    other = make_schedule(after=NOW - timedelta(minutes=1))
    firing = hold(lambda: fire_due(NOW, actor=ACTOR).runs)
    deletion = blocked(lambda: tasks.delete(SYSTEM, task, now=NOW))
    assert firing.commit() == 2
    deletion.result(20)
    assert not Task.objects.filter(pk=task.pk).exists()
    assert list(Run.objects.values_list("schedule", flat=True)) == [other.pk]


def test_a_schedule_that_fires_while_it_is_deleted_leaves_its_run(hold, blocked):
    schedule = make_schedule(after=NOW - timedelta(minutes=1))
    firing = hold(lambda: fire_due(NOW, actor=ACTOR).runs)
    deletion = blocked(lambda: schedules.delete(SYSTEM, schedule, now=NOW))
    assert firing.commit() == 1
    deletion.result(20)
    assert list(Run.objects.values_list("schedule", flat=True)) == [None]
    assert not Schedule.objects.exists()


def test_a_schedule_that_is_being_deleted_is_not_fired(hold):
    schedule, other = (make_schedule(after=NOW - timedelta(minutes=1)) for _ in range(2))
    deletion = hold(lambda: schedules.delete(SYSTEM, schedule, now=NOW))
    assert fire_due(NOW, actor=ACTOR).runs == 1
    deletion.commit()
    assert fire_due(NOW, actor=ACTOR).runs == 0
    assert list(Run.objects.values_list("schedule", flat=True)) == [other.pk]


# Run again


def test_a_firing_that_two_people_run_again_at_once_is_run_again_once(hold, blocked):
    up, down = make_task(), make_task()
    depend(up, down)
    (root,) = plan(up)
    bring(root, RunState.SUCCEEDED)
    bring(Run.objects.get(root=root).pk, RunState.FAILED)
    run = Run.objects.select_related("task").get(pk=root)
    first = hold(lambda: reruns.rerun_failed(SYSTEM, run, now=NOW))
    second = blocked(lambda: reruns.rerun_failed(SYSTEM, run, now=NOW))
    again = first.commit()
    with pytest.raises(WrongState) as caught:
        second.result(20)
    assert caught.value.details["run"] == again.pk
    assert Run.objects.filter(rerun_of__isnull=False).count() == 1
