"""The overlap policy of a task is asked at release, the one point that every way in passes."""

from __future__ import annotations

import pytest

from dispatcher_app.release import release_ready
from tasks_app import transitions
from tasks_app.models import Backfill, Run, Task
from tasks_app.moves import Outcome
from tasks_app.states import Reason, RunState
from tests.tasks_app.making import (
    ACTOR,
    ANSWERED,
    NOW,
    depend,
    end,
    enqueue,
    events_of,
    later,
    make_pool,
    make_task,
    member,
    plan,
    start,
    state_of,
)

pytestmark = pytest.mark.django_db


def release(now=NOW) -> list[int]:
    return [run.id for run in release_ready(now, actor=ACTOR)]


def states(*ids: int) -> list[str]:
    return [state_of(id) for id in ids]


def test_skip_starts_the_oldest_and_skips_what_finds_no_slot():
    task, other = make_task(overlap="skip"), make_task()
    young, old = plan(task), plan(task, due_at=later(seconds=-5))
    free, due_later = plan(other, 2), plan(task, due_at=later(seconds=1))
    assert sorted(release()) == sorted(old + free)
    assert states(*young, *due_later) == ["skipped", "waiting"]
    skipped = Run.objects.get(pk=young[0])
    assert (skipped.reason, skipped.finished_at) == (Reason.OVERLAP, NOW)
    assert "skip" in skipped.reason_detail
    assert events_of(young[0])[-1] == ("waiting", "skipped", 1)
    assert release(later(seconds=1)) == []
    assert states(*old, *due_later) == ["queued", "skipped"]
    assert f"#{old[0]}" in Run.objects.get(pk=due_later[0]).reason_detail


def test_skip_fills_all_slots_before_it_skips():
    task = make_task(overlap="skip", max_concurrent=2)
    ids = plan(task, 4)
    assert release() == ids[:2]
    assert states(*ids[2:]) == ["skipped"] * 2


def test_queue_one_keeps_the_newest_of_those_that_wait():
    task = make_task(overlap="queue_one")
    first, second, third = plan(task, 3)
    assert release() == [first]
    assert states(second, third) == ["skipped", "waiting"]
    (fourth,) = plan(task)
    assert release() == []
    assert states(third, fourth) == ["skipped", "waiting"]
    assert release() == []
    start_queued(first)
    end(first)
    assert release() == [fourth]


def test_queue_all_skips_nobody():
    ids = plan(make_task(overlap="queue_all"), 3)
    assert release() == ids[:1]
    assert states(*ids[1:]) == ["waiting"] * 2


@pytest.mark.parametrize("policy", ["cancel_running", "terminate_running"])
def test_the_newest_takes_the_place_of_the_running_one_once_that_has_ended(policy):
    task, other = make_task(overlap=policy), make_task(overlap=policy)
    (old,), (theirs,) = plan(task), plan(other)
    start(old)
    start(theirs)
    middle, new = plan(task, 2)
    assert release() == []
    assert states(old, middle, new) == ["running", "skipped", "waiting"]
    asked = Run.objects.get(pk=old)
    assert asked.cancel_requested_at == NOW
    assert asked.terminate_requested_at == (NOW if policy == "terminate_running" else None)
    assert Run.objects.get(pk=theirs).cancel_requested_at is None
    assert release(later(seconds=1)) == []
    assert Run.objects.get(pk=old).cancel_requested_at == NOW, "asked once"
    end(old, RunState.CANCELLED)
    assert release(later(seconds=2)) == [new]


def test_a_run_that_still_waits_out_the_grace_of_a_cancel_is_killed_for_the_newest():
    task = make_task(overlap="terminate_running")
    (old,) = plan(task)
    start(old)
    Run.objects.filter(pk=old).update(cancel_requested_at=later(seconds=-5))
    plan(task)
    assert release() == []
    asked = Run.objects.get(pk=old)
    assert (asked.cancel_requested_at, asked.terminate_requested_at) == (later(seconds=-5), NOW)
    assert release(later(seconds=1)) == []
    assert Run.objects.get(pk=old).terminate_requested_at == NOW, "asked once"


def test_a_run_that_was_only_queued_is_cancelled_at_once():
    task = make_task(overlap="cancel_running")
    (old,) = plan(task)
    assert release() == [old]
    (new,) = plan(task)
    release()
    assert states(old, new) == ["cancelled", "waiting"]
    assert Run.objects.get(pk=old).reason == Reason.CANCEL_REQUESTED
    assert release() == [new]


def test_only_as_many_are_ended_as_the_newest_need():
    task = make_task(overlap="cancel_running", max_concurrent=2)
    old, young = plan(task, 2)
    start(old, now=later(seconds=-2))
    start(young, now=later(seconds=-1))
    plan(task)
    release()
    assert [Run.objects.get(pk=id).cancel_requested_at for id in (old, young)] == [NOW, None]


def test_a_full_pool_makes_a_run_wait_and_does_not_skip_it():
    pool = make_pool("small", slots=1)
    (busy,) = plan(make_task(pool=pool))
    enqueue(busy)
    first, second = plan(make_task(pool=pool, overlap="skip"), 2)
    assert release() == []
    assert states(first, second) == ["waiting", "skipped"]
    start_queued(busy)
    end(busy)
    assert release() == [first]


def test_a_run_is_replaced_also_where_it_fills_the_pool_itself():
    task = make_task(pool=make_pool("small", slots=1), overlap="cancel_running")
    plan(task)
    release()
    (new,) = plan(task)
    assert release() == []
    assert release() == [new]


def test_a_retry_arrives_like_any_other_run():
    task = make_task(overlap="skip")
    (retried,) = plan(task)
    start(retried)
    failed = Outcome(retried, 1, RunState.WAITING, retry_at=later(seconds=10))
    assert transitions.finish([failed], worker_id=ANSWERED, now=NOW, actor=ACTOR) == {retried}
    (other,) = plan(task)
    assert release() == [other]
    assert state_of(retried) == RunState.WAITING
    assert release(later(seconds=10)) == []
    assert states(retried, other) == ["skipped", "queued"]


def test_runs_of_a_paused_task_arrive_when_it_is_resumed():
    task = make_task(overlap="skip", paused=True, pause_mode="queue")
    first, second = plan(task, 2)
    assert release() == []
    assert states(first, second) == ["waiting"] * 2
    Task.objects.update(paused=False)
    assert release() == [first]
    assert state_of(second) == RunState.SKIPPED


def test_a_held_run_and_one_below_another_have_not_arrived():
    up, task = make_task(), make_task(overlap="skip")
    depend(up, task)
    (root,) = plan(up)
    held, free = plan(task, 2)
    Run.objects.filter(pk=held).update(held=True)
    assert sorted(release()) == sorted([root, free])
    assert states(member(root, task).pk, held) == ["waiting"] * 2


def test_runs_of_a_backfill_arrive_as_it_lets_them():
    task = make_task(overlap="skip")
    batch = Backfill.objects.create(task=task, start_at=NOW, end_at=NOW, created_at=NOW, max_concurrent=1)
    first, second = plan(task, 2)
    Run.objects.filter(pk__in=(first, second)).update(backfill=batch)
    assert release() == [first]
    assert release() == []
    assert state_of(second) == RunState.WAITING
    start_queued(first)
    end(first)
    assert release() == [second]


def test_a_skipped_run_is_told_to_what_waits_for_it():
    from dispatcher_app.acceptance import accept_ended

    task, below = make_task(overlap="skip"), make_task()
    depend(task, below)
    first, second = plan(task, 2)
    assert release() == [first]
    accept_ended(NOW, actor=ACTOR)
    assert states(member(first, below).pk, member(second, below).pk) == ["waiting", "skipped"]


def start_queued(id: int) -> None:
    pairs = [(id, Run.objects.get(pk=id).attempt)]
    assert transitions.claim(pairs, worker_id=ANSWERED, now=NOW, actor=ACTOR)
