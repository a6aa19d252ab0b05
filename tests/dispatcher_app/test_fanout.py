"""Broadcast and shards: one run becomes several as it is released, and what waits for it waits for all of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from dispatcher_app import fanout
from dispatcher_app.acceptance import accept_ended
from dispatcher_app.release import release_ready
from dispatcher_app.rescue import find_unclaimed
from monitoring_app.invariants import check_invariants
from tasks_app import transitions
from tasks_app.models import Backfill, Run, RunDependency, Task
from tasks_app.services import reruns, runs
from tasks_app.states import RunState
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    default_pool,
    depend,
    end,
    later,
    make_pool,
    make_schedule,
    make_task,
    member,
    plan,
    state_of,
)
from tests.tasks_app.making import make_worker as worker_row
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
ROOT = system_actor()


def make_worker(name: str, **fields: Any) -> Worker:
    worker = worker_row(**fields)
    Worker.objects.filter(pk=worker.pk).update(name=name)
    worker.name = name
    return worker


def release(now: Any = NOW) -> list[int]:
    """Until nothing more is released: the first look makes the parts, the next ones release them."""
    ids: list[int] = []
    while found := release_ready(now, actor=ACTOR):
        ids += [run.id for run in found]
    return ids


def parts_of(id: int) -> list[Run]:
    return [Run.objects.get(pk=id), *Run.objects.filter(shard_of=id).order_by("shard_index")]


def finish(run: Run, state: RunState = RunState.SUCCEEDED) -> None:
    worker = run.target_id or worker_row().pk
    assert transitions.claim([(run.pk, run.attempt)], worker_id=worker, now=NOW, actor=ACTOR)
    end(run.pk, state)


def test_a_broadcast_becomes_one_run_for_each_worker_that_is_online_and_matches():
    workers = [make_worker(name, labels={"gpu": "true"}) for name in ("b", "a", "c")]
    make_worker("d", labels={"gpu": "true"}, state="cordoned")
    make_worker("e")
    make_worker("f", labels={"gpu": "true"}, pool=make_pool("other"))
    (id,) = plan(make_task(routing="broadcast", required_labels="gpu"), params={"x": 1})
    (other,) = plan(make_task())
    assert sorted(release()) == sorted([other, *(run.pk for run in parts_of(id))])
    parts = parts_of(id)
    assert [(run.shard_index, run.shard_total, run.target_id) for run in parts] == [
        (index, 3, worker.pk) for index, worker in enumerate(sorted(workers, key=lambda worker: worker.name))
    ]
    assert {run.state for run in parts} == {RunState.QUEUED}
    assert [run.run_type for run in parts] == ["manual", "part", "part"] and {run.params["x"] for run in parts} == {1}
    assert check_invariants(NOW, since=None) == []


def test_shards_are_as_many_as_the_task_says_spread_over_the_workers():
    first, second = make_worker("a", slots=4), make_worker("b", slots=4)
    (id,) = plan(make_task(routing="shards", shards=6))
    release()
    parts = parts_of(id)
    assert [(run.shard_index, run.shard_total) for run in parts] == [(index, 6) for index in range(6)]
    assert sorted(str(run.target_id) for run in parts) == sorted([str(first.pk)] * 3 + [str(second.pk)] * 3)


def test_one_shard_or_one_worker_is_one_run():
    make_worker("a")
    (one,), (alone,) = plan(make_task(routing="shards", shards=1)), plan(make_task(routing="broadcast"))
    assert sorted(release()) == sorted([one, alone])
    assert [(run.shard_index, run.shard_total) for run in (*parts_of(one), *parts_of(alone))] == [(0, 1), (0, 1)]


def test_without_a_worker_a_broadcast_waits_and_no_part_is_made():
    (id,) = plan(make_task(routing="broadcast"))
    assert release() == []
    assert (state_of(id), Run.objects.count()) == (RunState.WAITING, 1)


def test_parts_wait_for_slots_like_any_run():
    pool = make_pool("small", slots=2)
    make_worker("a", pool=pool)
    (id,) = plan(make_task(routing="shards", shards=5, pool=pool))
    assert len(release()) == 2
    assert [run.state for run in parts_of(id)].count(RunState.WAITING) == 3
    finish(parts_of(id)[0])
    assert len(release()) == 1


def test_what_is_downstream_waits_for_all_parts_and_every_part_knows_what_was_upstream():
    make_worker("a")
    load, split, report = make_task("load"), make_task("split", routing="shards", shards=3), make_task("report")
    depend(load, split, report)
    (root,) = plan(load)
    release()
    finish(Run.objects.get(pk=root))
    accept_ended(NOW, actor=ACTOR)
    release()
    parts, below = parts_of(member(root, split).pk), member(root, report)
    assert [run.state for run in parts] == [RunState.QUEUED] * 3
    for run in parts:
        assert state_of(below.pk) == RunState.WAITING
        assert RunDependency.objects.filter(upstream=root, downstream=run).count() == 1
        assert RunDependency.objects.filter(upstream=run, downstream=below).count() == 1
        assert release() == []
        finish(run)
        accept_ended(NOW, actor=ACTOR)
    assert release() == [below.pk]


def test_one_failed_part_fails_what_needs_all_of_them_and_is_run_again_alone():
    workers = [make_worker(name) for name in ("a", "b", "c")]
    split, report = make_task("split", routing="broadcast"), make_task("report")
    depend(split, report)
    (id,) = plan(split)
    release()
    for run in parts_of(id):
        finish(run, RunState.FAILED if run.shard_index else RunState.SUCCEEDED)
    accept_ended(NOW, actor=ACTOR)
    assert state_of(member(id, report).pk) == RunState.UPSTREAM_FAILED
    root = reruns.rerun_failed(ROOT, Run.objects.select_related("task").get(pk=id), now=NOW)
    again = list(reruns.firing_of(root).order_by("pk"))
    assert sorted((run.task.name, run.shard_index, run.target_id) for run in again if run.task_id == split.pk) == [
        ("split", index, workers[index].pk) for index in (1, 2)
    ]
    assert len(release()) == 2 and Run.objects.filter(task=split).count() == 5
    for run in reruns.firing_of(root).filter(task=split):
        finish(run)
    accept_ended(NOW, actor=ACTOR)
    assert release() == [run.pk for run in again if run.task_id == report.pk]


def test_a_part_is_run_again_as_the_same_part_and_not_as_all_of_them():
    workers = [make_worker(name) for name in ("a", "b")]
    (id,) = plan(make_task(routing="broadcast"))
    release()
    for run in parts_of(id):
        finish(run, RunState.FAILED)
    for run in parts_of(id):
        again = runs.rerun(ROOT, Run.objects.select_related("task").get(pk=run.pk), now=NOW)
        assert release() == [again.pk]
        found = Run.objects.get(pk=again.pk)
        assert (found.shard_index, found.shard_total, found.target_id) == (
            run.shard_index, 2, workers[run.shard_index or 0].pk,
        )  # fmt: skip


def test_another_attempt_of_a_part_goes_to_its_own_worker():
    workers = [make_worker(name) for name in ("a", "b")]
    (id,) = plan(make_task(routing="broadcast", retry_count=1))
    release()
    last = parts_of(id)[-1]
    assert transitions.claim([(last.pk, 1)], worker_id=workers[1].pk, now=NOW, actor=ACTOR)
    end(last.pk, RunState.WAITING, retry_at=NOW)
    assert release() == [last.pk]
    assert len(parts_of(id)) == 2 and parts_of(id)[-1].target_id == workers[1].pk


@pytest.mark.parametrize(
    ("state", "becomes"), [("cordoned", "queued"), ("draining", "cancelled"), ("lost", "cancelled")]
)
def test_a_part_waits_for_a_cordoned_worker_and_ends_with_one_that_leaves(state, becomes):
    make_worker("a")
    leaving = make_worker("b")
    (id,) = plan(make_task(routing="broadcast"))
    release()
    Worker.objects.filter(pk=leaving.pk).update(state=state)
    Run.objects.update(sweep_at=NOW)
    found = find_unclaimed(later(seconds=1), is_empty=lambda address: False, actor=ACTOR)
    kept, part = parts_of(id)
    assert found == []
    assert (kept.state, part.state, part.target_id) == (RunState.QUEUED, becomes, leaving.pk)
    assert part.reason == ("worker_left" if becomes == "cancelled" else "")
    if state == "cordoned":
        Worker.objects.filter(pk=leaving.pk).update(state="online")
        found = find_unclaimed(later(minutes=1), is_empty=lambda address: True, actor=ACTOR)
        assert (part.pk, leaving.pk) in [(run.id, run.target) for run in found]


def test_an_instant_of_a_schedule_still_has_one_run():
    make_worker("a")
    schedule = make_schedule(make_task(routing="shards", shards=3), after=NOW)
    (id,) = plan(Task.objects.get(), schedule_id=schedule.pk, nominal_at=later(minutes=1), due_at=NOW)
    release()
    assert list(Run.objects.filter(schedule=schedule).values_list("pk", flat=True)) == [id]
    assert {run.nominal_at for run in parts_of(id)} == {later(minutes=1)}


def test_a_backfill_counts_the_parts_as_runs_of_its_own():
    make_worker("a")
    task = make_task(routing="shards", shards=3)
    backfill = Backfill.objects.create(
        task=task, start_at=NOW, end_at=NOW, max_concurrent=9, total=1, priority=10, created_at=NOW
    )
    (id,) = plan(task, backfill_id=backfill.pk, priority=10)
    release()
    backfill.refresh_from_db()
    assert backfill.total == 3 == Run.objects.filter(backfill=backfill).count() == len(parts_of(id))


def test_more_parts_than_one_look_makes_follow_in_the_next(monkeypatch):
    monkeypatch.setattr(fanout, "MOST_PARTS", 5)
    make_worker("a")
    ids = plan(make_task(routing="shards", shards=4), 3)
    first = [run.id for run in release_ready(NOW, actor=ACTOR)]
    assert first == [ids[0]] and [state_of(id) for id in ids] == ["queued", "waiting", "waiting"]
    release()
    assert [len(parts_of(id)) for id in ids] == [4, 4, 4]
    assert {run.state for id in ids for run in parts_of(id)} == {RunState.QUEUED}


def test_the_number_of_statements_does_not_grow_with_runs_and_parts():
    make_worker("a")

    def statements(number: int, shards: int) -> int:
        plan(make_task(routing="shards", shards=shards), number)
        with CaptureQueriesContext(connection) as captured:
            assert len(release_ready(NOW, actor=ACTOR)) == number
        release()
        return len(captured)

    assert statements(2, 2) == statements(40, 10)


def test_overlap_must_allow_what_runs_at_once():
    from tasks_app.errors import InvalidInput
    from tasks_app.services import tasks

    fields = {"project": make_task().project, "pool": default_pool(), "executor": "shell", "command": "true"}
    for wrong, field in (
        ({"routing": "broadcast", "overlap": "skip"}, "overlap"),
        ({"routing": "shards"}, "shards"),
        ({"routing": "shards", "shards": 1001}, "shards"),
        ({"routing": "specific"}, "routing_workers"),
        ({"routing": "failover", "routing_workers": []}, "routing_workers"),
        ({"routing": "failover", "routing_workers": ["a", "a"]}, "routing_workers"),
        ({"routing": "consistent_hash"}, "routing_key"),
        ({"required_labels": "gpu and"}, "required_labels"),
    ):
        with pytest.raises(InvalidInput) as error:
            tasks.create(ROOT, {"name": "t", **fields, **wrong}, now=NOW)
        assert error.value.errors.keys() == {field}, wrong
    made = tasks.create(
        ROOT, {"name": "t", **fields, "routing": "consistent_hash", "concurrency_key": "{{ params.x }}"}, now=NOW
    )
    assert made.routing == "consistent_hash"
