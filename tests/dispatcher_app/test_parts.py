"""What looks at a run that was made into several looks at all of its parts: cancels, delays, periods, pruning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from access_app.actors import system_actor
from dispatcher_app.acceptance import accept_ended, accept_periods
from dispatcher_app.firing import fire_due, rearm
from dispatcher_app.release import release_ready
from tasks_app import transitions
from tasks_app.errors import WrongState
from tasks_app.forgetting import forget
from tasks_app.models import Run, Schedule, Task, TaskDependency
from tasks_app.services import backfills, reruns, runs
from tasks_app.services.backfills import Wish
from tasks_app.states import RunState
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    depend,
    end,
    later,
    make_schedule,
    make_task,
    make_worker,
    member,
    plan,
    state_of,
)
from workers_app.parameters import fill_in

pytestmark = pytest.mark.django_db
ROOT = system_actor()


@pytest.fixture(autouse=True)
def worker() -> Any:
    return make_worker(slots=100)


def shards(number: int = 3, **fields: Any) -> Task:
    return make_task(routing="shards", shards=number, **fields)


def release(now: Any = NOW) -> None:
    while release_ready(now, actor=ACTOR):
        pass


def parts_of(id: int) -> list[int]:
    return [id, *Run.objects.filter(shard_of=id).order_by("shard_index").values_list("pk", flat=True)]


def begin(*ids: int, now: Any = NOW) -> None:
    for run in Run.objects.filter(pk__in=ids):
        assert transitions.claim([(run.pk, run.attempt)], worker_id=run.target_id or uuid4(), now=now, actor=ACTOR)


def finish(*ids: int, state: RunState = RunState.SUCCEEDED, now: Any = NOW, **outcome: Any) -> None:
    begin(*ids, now=now)
    for id in ids:
        end(id, state, now=now, **outcome)


def run_of(id: int) -> Run:
    return Run.objects.select_related("task").get(pk=id)


# Cancel


@pytest.mark.parametrize("verb", [runs.cancel, runs.terminate])
def test_to_cancel_the_first_part_cancels_all_that_are_not_over_and_to_cancel_another_that_one_alone(verb):
    task = shards(5)
    (id,), (beside,) = plan(task), plan(task)
    release()
    first, running, ended, queued, other = parts_of(id)
    begin(first, running)
    finish(ended)
    verb(ROOT, run_of(other), now=NOW)
    assert [state_of(pk) for pk in (first, running, ended, queued, other)] == [
        "running", "running", "succeeded", "queued", "cancelled",
    ]  # fmt: skip
    verb(ROOT, run_of(first), now=NOW)
    assert [state_of(pk) for pk in (first, running, ended, queued, other)] == [
        "running", "running", "succeeded", "cancelled", "cancelled",
    ]  # fmt: skip
    asked = set(Run.objects.filter(cancel_requested_at=NOW, state="running").values_list("pk", flat=True))
    assert asked == {first, running}
    assert {state_of(pk) for pk in parts_of(beside)} == {"queued"}


def test_where_only_the_first_part_is_over_the_others_are_still_cancelled_through_it():
    (id,) = plan(shards(2))
    release()
    first, second = parts_of(id)
    finish(first)
    runs.cancel(ROOT, run_of(first), now=NOW)
    assert (state_of(first), state_of(second)) == ("succeeded", "cancelled")
    with pytest.raises(WrongState, match="succeeded"):
        runs.cancel(ROOT, run_of(first), now=NOW)


def test_a_run_that_is_cancelled_before_it_is_released_has_no_parts():
    (id,) = plan(shards())
    runs.cancel(ROOT, run_of(id), now=NOW)
    release()
    assert (state_of(id), parts_of(id)) == ("cancelled", [id])


# Claim


def test_a_run_that_was_sent_to_one_worker_alone_is_claimed_by_no_other():
    own, other = make_worker(), make_worker()
    (id,), (pooled,) = plan(make_task()), plan(make_task())
    transitions.enqueue([id, pooled], now=NOW, sweep_at=NOW, actor=ACTOR, targets={id: own.pk})

    def claim(worker: Any) -> list[int]:
        found = transitions.claim([(id, 1), (pooled, 1)], worker_id=worker.pk, now=NOW, actor=ACTOR)
        return [run.id for run in found]

    assert claim(other) == [pooled]
    assert claim(own) == [id]


# What counts from the end of a run


def test_a_fixed_delay_counts_from_the_end_of_the_last_part():
    task = shards(2)
    schedule = make_schedule(task, after=NOW, kind="fixed_delay", expression="", interval_seconds=60)
    fire_due(NOW, actor=ACTOR)
    id = Run.objects.get(schedule=schedule).pk
    release()
    first, second = parts_of(id)
    finish(first, now=later(seconds=10))
    assert rearm(later(seconds=20)) == 0
    finish(second, now=later(seconds=30))
    assert rearm(later(seconds=40)) == 1
    assert Schedule.objects.get(pk=schedule.pk).next_fire_at == later(seconds=90)


@pytest.mark.parametrize("policy", ["fail", "wait"])
def test_a_period_is_settled_by_all_parts_of_its_last_run(policy):
    up, down = shards(3), make_task()
    TaskDependency.objects.create(upstream=up, downstream=down, period="day", period_policy=policy)
    (id,), (waiting,) = plan(up, nominal_at=NOW), plan(down, nominal_at=later(seconds=1))
    release()
    first, second, third = parts_of(id)
    for pk in (first, second):
        finish(pk)
        assert accept_periods(NOW, actor=ACTOR) == 0
    finish(third, state=RunState.FAILED)
    accept_periods(NOW, actor=ACTOR)
    if policy == "fail":
        assert state_of(waiting) == "upstream_failed"
        return
    assert not Run.objects.get(pk=waiting).upstream_ready
    again = runs.rerun(ROOT, run_of(third), now=NOW)
    release()
    finish(again.pk)
    assert accept_periods(NOW, actor=ACTOR) == 1
    assert Run.objects.get(pk=waiting).upstream_ready


# Backfills


@pytest.mark.parametrize(
    ("last", "why_not"), [(None, "under_way"), (RunState.FAILED, ""), (RunState.SUCCEEDED, "has_run")]
)
def test_an_instant_has_run_when_all_parts_have_and_failed_with_any_of_them(last, why_not):
    task = shards(2)
    schedule = make_schedule(task, after=later(hours=-2), expression="0 * * * *")
    at = NOW.replace(minute=0, second=0)
    (id,) = plan(task, run_type="scheduled", schedule_id=schedule.pk, nominal_at=at)
    release()
    first, second = parts_of(id)
    finish(first)
    if last is not None:
        finish(second, state=last)
    (instant,) = backfills.preview(
        ROOT, task, Wish(at, at + timedelta(minutes=1), reprocess="failed"), now=later(days=1)
    )
    assert (instant.run_id, instant.why_not) == (id, why_not)


# Pruning


def test_a_run_is_kept_while_a_part_of_it_is_not_over():
    (id,) = plan(shards(2))
    release()
    first, second = parts_of(id)
    finish(first)
    assert forget([first]) == 0
    finish(second)
    assert forget([first, second]) == 2


# Outputs


def test_downstream_runs_are_given_the_output_of_the_first_part():
    split, report = make_task("split", routing="shards", shards=2), make_task(params={"n": "{{ upstream.split.n }}"})
    depend(split, report)
    (id,) = plan(split)
    release()
    for number, pk in enumerate(parts_of(id)):
        finish(pk, output={"n": number})
    accept_ended(NOW, actor=ACTOR)
    release()
    below = member(id, report)
    claimed = transitions.claim([(below.pk, 1)], worker_id=uuid4(), now=NOW, actor=ACTOR)
    version = report.version
    assert version is not None
    params, failed = fill_in(claimed, {version.pk: version})
    assert (params[below.pk], failed) == ({"n": 0}, {})


# Rerun from where it failed


def test_parts_of_two_tasks_that_failed_are_run_again_each_beside_the_first_of_its_own_task():
    load = make_task("load")
    left, right = shards(3), shards(3)
    depend(load, left)
    depend(load, right)
    (root,) = plan(load)
    release()
    finish(root)
    accept_ended(NOW, actor=ACTOR)
    release()
    for task in (left, right):
        first, *others = parts_of(member(root, task).pk)
        finish(first)
        finish(*others, state=RunState.FAILED)
    again = reruns.rerun_failed(ROOT, run_of(root), now=later(seconds=1))
    made = Run.objects.filter(pk__gte=again.pk).order_by("pk")
    assert sorted((run.task_id, run.shard_index) for run in made) == [
        (task.pk, index) for task in (left, right) for index in (1, 2)
    ]
    for run in made:
        assert run.shard_of is None or run.shard_of.task_id == run.task_id
    assert set(reruns.firing_of(again).values_list("pk", flat=True)) == {run.pk for run in made}
    accept_ended(later(seconds=1), actor=ACTOR)
    release(later(seconds=1))
    assert {state_of(run.pk) for run in made} == {"queued"} and made.count() == 4
