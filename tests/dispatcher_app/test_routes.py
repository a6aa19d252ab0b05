"""Runs that go to one worker alone: released with it, explained where there is none, sent on where it left."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from dispatcher_app.explain import Explanation, explain
from dispatcher_app.release import Released, release_ready
from dispatcher_app.rescue import expire_leases, find_unclaimed
from tasks_app.models import Run, Task
from tasks_app.states import RunState
from tests.tasks_app.making import ACTOR, NOW, bring, end, enqueue, later, make_pool, make_task, plan, start
from tests.tasks_app.making import make_worker as worker_row
from workers_app import services
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
ROOT = system_actor()


def make_worker(name: str = "", **fields: Any) -> Worker:
    worker = worker_row(**fields)
    if name:
        worker.name = name
        worker.save(update_fields=["name"])
    return worker


def release(now: Any = NOW) -> dict[int, Released]:
    return {run.id: run for run in release_ready(now, actor=ACTOR)}


def target_of(id: int) -> UUID | None:
    return Run.objects.values_list("target_id", flat=True).get(pk=id)


def explained(id: int, now: Any = NOW) -> Explanation:
    return explain(Run.objects.select_related("task__pool", "pool").get(pk=id), now)


def closed(id: int) -> dict[str, str]:
    return {gate.name: gate.detail for gate in explained(id).gates if not gate.open}


def stranded(now: Any, *, full: tuple[str, ...] = ()) -> list[tuple[int, UUID | None]]:
    found = find_unclaimed(now, is_empty=lambda address: address not in full)
    return [(run.id, run.target) for run in found]


# Release


def test_a_run_that_any_worker_may_take_goes_to_the_queue_of_its_pool():
    make_worker()
    (id,) = plan(make_task())
    assert release()[id].target is None and target_of(id) is None


def test_a_run_with_required_labels_goes_to_a_worker_that_has_them():
    plain, gpu = make_worker(), make_worker(labels={"gpu": "true", "zone": "a"})
    elsewhere = make_worker(pool=make_pool("other"), labels={"gpu": "true", "zone": "a"})
    ids = plan(make_task(required_labels="gpu and zone in (a, b)"), 3)
    plain_id = plan(make_task())[0]
    found = release()
    assert {found[id].target for id in ids} == {gpu.pk} == {target_of(id) for id in ids}
    assert found[plain_id].target is None
    assert plain.pk != gpu.pk != elsewhere.pk


@pytest.mark.parametrize("overlap", ["allow", "queue_all", "queue_one", "skip", "cancel_running"])
def test_a_run_whose_labels_no_worker_has_stays_and_explain_names_the_label(overlap):
    make_worker(labels={"zone": "a"})
    (id,) = plan(make_task(required_labels="zone = a and gpu and mem >= 16", overlap=overlap))
    (other,) = plan(make_task())
    assert list(release()) == [other]
    assert Run.objects.get(pk=id).state == RunState.WAITING
    assert closed(id) == {
        "labels": "No worker of the pool default has the label that its task requires: gpu, mem >= 16."
    }
    make_worker(labels={"zone": "a", "gpu": "1", "mem": "16"})
    assert closed(id) == {}
    assert list(release()) == [id]


def test_labels_that_no_worker_has_together_are_told_as_a_whole():
    make_worker(labels={"gpu": "true"})
    make_worker(labels={"zone": "a"})
    (id,) = plan(make_task(required_labels="gpu and zone = a"))
    assert release() == {}
    assert "all the labels that its task requires: gpu and zone = a" in closed(id)["labels"]


@pytest.mark.parametrize("state", ["cordoned", "draining", "lost", "offline"])
def test_a_worker_that_takes_nothing_new_is_sent_nothing(state):
    make_worker(labels={"gpu": "true"}, state=state)
    (id,) = plan(make_task(required_labels="gpu"))
    assert release() == {}
    assert closed(id).keys() == {"labels", "worker"}


@pytest.mark.parametrize(
    ("routing", "says"),
    [
        ({"routing": "specific", "routing_workers": ["b"]}, "none takes runs in the pool default: b"),
        ({"routing": "failover", "routing_workers": ["b", "c"]}, "none takes runs in the pool default: b, c"),
    ],
)
def test_a_run_whose_named_workers_are_away_waits_for_them(routing, says):
    make_worker("a")
    (id,) = plan(make_task(**routing))
    assert release() == {}
    assert says in closed(id)["routing"] and closed(id).keys() == {"routing"}
    named = make_worker("b")
    assert release()[id].target == named.pk


def test_without_any_worker_a_routed_run_waits_and_one_for_any_is_queued():
    (routed,), (plain,) = plan(make_task(routing="least_loaded")), plan(make_task())
    assert list(release()) == [plain]
    assert closed(routed)["routing"] == "No worker of the pool default takes runs."


def test_turns_go_on_where_the_last_look_ended():
    workers = [make_worker(name) for name in ("a", "b", "c")]
    task = make_task(routing="round_robin")
    found = []
    for second in range(4):
        (id,) = plan(task)
        found.append(release(later(seconds=second))[id].target)
    assert found == [worker.pk for worker in (*workers, workers[0])]


def test_the_key_is_that_parameter_of_the_run_or_of_its_task_or_else_the_concurrency_key():
    for name in "abcdef":
        make_worker(name)
    by_parameter = make_task(routing="consistent_hash", routing_key="customer", params={"customer": 1})
    by_key = make_task(routing="consistent_hash", concurrency_key="{{ params.c }}", max_concurrent_per_key=9)
    given = [plan(by_parameter, params={"customer": n, "other": n})[0] for n in (1, 2, 3, 4, 5, 6, 1)]
    default = plan(by_parameter)[0]
    keyed = [plan(by_key, params={"c": n})[0] for n in (1, 2, 3, 4, 5, 6, 1)]
    found = release()
    assert found[given[0]].target == found[given[-1]].target == found[default].target
    assert found[keyed[0]].target == found[keyed[-1]].target
    for ids in (given, keyed):
        assert len({found[id].target for id in ids}) > 1


def test_the_least_loaded_counts_what_runs_and_what_is_queued_to_it_alone():
    first, second = make_worker("a", slots=4), make_worker("b", slots=4)
    start(*plan(make_task(), 2), worker_id=first.pk)
    (waiting,) = plan(make_task())
    enqueue(waiting)
    Run.objects.filter(pk=waiting).update(target_id=second.pk)
    found = release_of(make_task(routing="least_loaded"), 3)
    assert found == [second.pk, first.pk, second.pk] or sorted(map(str, found)) == sorted(
        map(str, [second.pk, second.pk, first.pk])
    )


def release_of(task: Task, number: int) -> list[UUID | None]:
    ids = plan(task, number)
    found = release()
    return [found[id].target for id in ids]


def test_a_task_that_is_routed_no_more_takes_its_next_attempt_to_the_pool():
    worker = make_worker()
    task = make_task(routing="least_loaded", retry_count=1)
    (id,) = plan(task)
    assert release()[id].target == worker.pk
    from tasks_app import transitions

    assert transitions.claim([(id, 1)], worker_id=worker.pk, now=NOW, actor=ACTOR)
    end(id, RunState.WAITING, retry_at=NOW)
    Task.objects.filter(pk=task.pk).update(routing="any")
    assert release()[id].target is None and target_of(id) is None


def test_the_number_of_statements_is_that_of_before_without_routing_and_does_not_grow_with_runs_and_workers():
    def statements(number: int, **routing: Any) -> int:
        task = make_task(**routing)
        plan(task, number)
        with CaptureQueriesContext(connection) as captured:
            assert len(release()) == number
        return len(captured)

    for _ in range(5):
        make_worker(labels={"gpu": "true"})
    plain = statements(2)
    assert plain == statements(200)
    for routing, more in (
        ({"required_labels": "gpu"}, 2),
        ({"routing": "round_robin"}, 3),
        ({"routing": "consistent_hash", "routing_key": "x"}, 3),
    ):
        assert statements(2, **routing) == statements(200, **routing) == plain + more, routing


# Runs whose worker has left


def queued_to(worker: Worker, **fields: Any) -> int:
    (id,) = plan(make_task(**({"routing": "least_loaded"} | fields)))
    enqueue(id)
    Run.objects.filter(pk=id).update(target_id=worker.pk)
    return id


@pytest.mark.parametrize("how", ["cordon", "drain", "lose"])
def test_what_is_queued_to_a_worker_that_takes_no_more_goes_to_another_at_once(how):
    first, second = make_worker("a", lease_until=later(days=9999)), make_worker("b", lease_until=later(days=9999))
    moved, kept, pooled = queued_to(first), queued_to(second), plan(make_task())[0]
    enqueue(pooled)
    assert stranded(NOW) == []
    if how == "lose":
        Worker.objects.filter(pk=first.pk).update(lease_until=later(seconds=-1))
        assert expire_leases(NOW) == 1
    else:
        {"cordon": services.cordon, "drain": services.drain}[how](ROOT, first, now=NOW)
    assert stranded(NOW) == [(moved, second.pk)]
    assert (target_of(moved), target_of(kept), target_of(pooled)) == (second.pk, second.pk, None)
    assert stranded(later(seconds=1)) == []


def test_what_has_nowhere_to_go_stays_queued_is_explained_and_goes_as_soon_as_a_worker_comes():
    gone = make_worker("a", labels={"gpu": "true"}, state="cordoned")
    make_worker("b")
    id = queued_to(gone, required_labels="gpu")
    assert stranded(later(seconds=5)) == []
    assert (Run.objects.get(pk=id).state, target_of(id)) == (RunState.QUEUED, gone.pk)
    assert closed(id)["labels"].endswith("requires: gpu.") and "cordoned" in closed(id)["worker"]
    fresh = make_worker("c", labels={"gpu": "true"})
    assert stranded(later(seconds=10)) == [(id, fresh.pk)]
    assert closed(id) == {}


def test_a_lost_message_is_sent_again_to_the_same_worker_unless_it_is_full_or_others_wait_there():
    worker = make_worker("a", slots=1)
    id = queued_to(worker, routing="specific", routing_workers=["a"])
    assert stranded(later(seconds=5), full=(str(worker.pk),)) == []
    assert stranded(later(seconds=10)) == [(id, worker.pk)]
    (busy,) = plan(make_task())
    start(busy, worker_id=worker.pk)
    assert stranded(later(minutes=5)) == []
    end(busy)
    assert stranded(later(minutes=11)) == [(id, worker.pk)]


def test_a_clock_that_was_set_back_does_not_put_off_the_next_look_at_what_went_to_one_worker():
    worker = make_worker("a")
    id = queued_to(worker, routing="specific", routing_workers=["a"])
    assert stranded(later(minutes=-5)) == [], "by the clock of another dispatcher it is to be looked at in time"
    assert stranded(later(hours=-1)) == [(id, worker.pk)]


@pytest.mark.parametrize(
    ("routing", "moves"),
    [
        ({"routing": "least_loaded"}, True),
        ({"routing": "round_robin"}, True),
        ({"routing": "any", "required_labels": "x"}, True),
        ({"routing": "consistent_hash", "routing_key": "k"}, False),
        ({"routing": "failover", "routing_workers": ["a", "b"]}, False),
    ],
)
def test_what_waits_at_a_full_worker_moves_to_one_with_room_where_its_task_does_not_care(routing, moves):
    full = make_worker("a", slots=1, labels={"x": "1"})
    start(*plan(make_task()), worker_id=full.pk)
    ids = [queued_to(full, **routing) for _ in range(2)]
    free = make_worker("b", slots=1, labels={"x": "1"})
    found = stranded(later(seconds=5))
    assert found == ([(ids[0], free.pk)] if moves else []), "one slot, one run"
    assert target_of(ids[1]) == full.pk


@pytest.mark.parametrize("state", sorted(set(RunState) - {RunState.QUEUED}))
def test_only_queued_runs_are_sent_on(state):
    gone = make_worker(state="lost")
    make_worker()
    (id,) = plan(make_task(routing="least_loaded"))
    bring(id, state)
    Run.objects.filter(pk=id).update(target_id=gone.pk, sweep_at=NOW)
    assert stranded(later(minutes=1)) == []
    assert target_of(id) == gone.pk


def test_a_queued_run_is_explained_by_the_worker_that_it_was_sent_to():
    worker = make_worker("a", slots=1)
    make_worker("b")
    id = queued_to(worker)
    assert closed(id) == {}
    start(*plan(make_task()), worker_id=worker.pk)
    assert closed(id)["worker"] == "It was sent to the worker a; 1 of its 1 slots are taken."
    gate = next(gate for gate in explained(id).gates if gate.name == "worker")
    assert [holder.state for holder in gate.holders] == ["running"]


def test_where_nothing_is_overdue_one_statement_is_all(django_assert_num_queries):
    queued_to(make_worker())
    with django_assert_num_queries(1):
        assert stranded(NOW) == []
