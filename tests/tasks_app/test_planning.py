"""Planning: a firing becomes a run of its task and of everything downstream, once."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks_app.models import Resource, Run, RunDependency, RunEvent, TaskDependency, TaskResource
from tasks_app.models.run import RunType
from tasks_app.planning import Firing, plan_runs
from tasks_app.states import RunState
from tests.tasks_app.making import ACTOR, NOW, depend, events_of, later, make_schedule, make_task, member, plan

pytestmark = pytest.mark.django_db


def edges_between_runs() -> set[tuple[str, str]]:
    return set(RunDependency.objects.values_list("upstream__task__name", "downstream__task__name"))


def statements(call) -> int:
    with CaptureQueriesContext(connection) as captured:
        call()
    return len(captured)


def test_a_task_without_downstream_gives_one_ready_run():
    task, other = make_task(priority=75), make_task()
    (id,) = plan(task, params={"x": 1})
    run = Run.objects.get()
    assert (run.pk, run.task_id, run.version_id, run.pool_id) == (id, task.pk, task.version_id, task.pool_id)
    assert (run.state, run.attempt, run.priority, run.params) == (RunState.WAITING, 1, 75, {"x": 1})
    assert (run.upstream_ready, run.tell_downstream, run.held, run.root_id) == (True, False, False, None)
    assert (run.due_at, run.created_at, run.finished_at) == (NOW, NOW, None)
    assert events_of(id) == [("", "waiting", 1)]
    assert not Run.objects.filter(task=other).exists()


def test_a_firing_plans_everything_downstream_with_edges():
    a, b, c, d, above = (make_task(name) for name in ("a", "b", "c", "d", "above"))
    depend(above, a, b, d)
    depend(a, c, d)
    (root,) = plan(a, nominal_at=later(minutes=-1))
    assert edges_between_runs() == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert Run.objects.count() == 4
    assert not Run.objects.filter(task=above).exists()
    for task, tells in ((b, True), (c, True), (d, False)):
        run = member(root, task)
        assert (run.run_type, run.upstream_ready, run.tell_downstream) == (RunType.UPSTREAM, False, tells)
        assert (run.nominal_at, run.due_at, run.schedule_id) == (later(minutes=-1), NOW, None)
        assert (run.trigger_rule, run.version_id, run.priority) == ("all_success", task.version_id, task.priority)
        assert events_of(run.pk) == [("", "waiting", 1)]


def test_a_downstream_task_takes_its_own_rule_pool_and_priority():
    up, down = make_task(priority=10), make_task(priority=90, trigger_rule="all_done")
    depend(up, down)
    (root,) = plan(up, priority=100)
    assert Run.objects.get(pk=root).priority == 100
    run = member(root, down)
    assert (run.priority, run.trigger_rule, run.upstream_ready) == (90, "all_done", False)


def test_a_rule_of_always_waits_for_nobody():
    up, down = make_task(), make_task(trigger_rule="always")
    depend(up, down)
    (root,) = plan(up)
    assert member(root, down).upstream_ready is True


def test_runs_take_the_weight_and_the_key_of_their_task():
    key = "{{ task.name }} {{ params.region }} {{ nominal_date }}"
    up = make_task("up", weight=3, concurrency_key=key, params={"region": "eu"})
    down, plain = make_task("down", weight=2, concurrency_key=key, params={"region": "us"}), make_task()
    depend(up, down)
    depend(up, plain)
    # In Shanghai it is the next day already.
    schedule = make_schedule(up, after=NOW, time_zone="Asia/Shanghai")
    at: dict[str, Any] = {"run_type": RunType.SCHEDULED, "due_at": NOW, "nominal_at": later(hours=6)}
    (root,) = plan_runs([Firing(up, schedule_id=schedule.pk, **at)], now=NOW, actor=ACTOR).run_ids
    assert root is not None
    (other,) = plan(up, params={"region": "jp"}, nominal_at=later(hours=6))
    limits = {run.pk: (run.weight, run.concurrency_key) for run in Run.objects.all()}
    assert limits[root] == (3, "up eu 2026-03-03")
    assert limits[other] == (3, "up jp 2026-03-02")
    assert limits[member(root, down).pk] == (2, "down us 2026-03-03")
    assert limits[member(root, plain).pk] == (1, "")


def test_runs_without_the_value_for_their_key_are_planned_all_the_same_and_share_one():
    task = make_task(concurrency_key="{{ params.region }}")
    plan(task, 2)
    plan(task, params={"region": "eu"})
    keys = Run.objects.order_by("pk").values_list("concurrency_key", flat=True)
    assert list(keys) == ["{{ params.region }}", "{{ params.region }}", "eu"]


def test_the_end_of_attempts_is_told_where_a_breaker_or_a_count_of_failures_listens():
    counted = make_task("counted", auto_pause_after=3)
    by_count, by_share, unguarded, plain = (make_task(name) for name in ("by count", "by share", "unguarded", "plain"))
    for task, breaker in ((by_count, {"breaker_failures": 5}), (by_share, {"breaker_ratio": 0.5}), (unguarded, {})):
        resource = Resource.objects.create(name=f"r{task.pk}", capacity=1, **breaker)
        TaskResource.objects.create(task=task, resource=resource)
    depend(plain, by_share)
    for task in (counted, by_count, unguarded, plain):
        plan(task)
    told = set(Run.objects.filter(tell_limits=True).values_list("task__name", flat=True))
    assert told == {"counted", "by count", "by share"}


def test_each_firing_has_a_downstream_of_its_own():
    a, b = make_task("a"), make_task("b")
    depend(a, b)
    first, second = plan(a, 2)
    assert member(first, b).pk != member(second, b).pk
    pairs = RunDependency.objects.values_list("upstream_id", "downstream_id")
    assert set(pairs) == {(first, member(first, b).pk), (second, member(second, b).pk)}


def test_edges_of_planned_runs_are_frozen():
    a, b, c = make_task("a"), make_task("b"), make_task("c")
    depend(a, b)
    (root,) = plan(a)
    TaskDependency.objects.all().delete()
    depend(a, c)
    assert edges_between_runs() == {("a", "b")}
    (later_root,) = plan(a)
    assert set(Run.objects.filter(root=later_root).values_list("task", flat=True)) == {c.pk}
    assert set(Run.objects.filter(root=root).values_list("task", flat=True)) == {b.pk}


def test_an_instant_of_a_schedule_is_planned_once():
    task = make_task()
    schedule, other = make_schedule(task, after=NOW), make_schedule(task, after=NOW)
    at: dict[str, Any] = {"run_type": RunType.SCHEDULED, "due_at": NOW, "nominal_at": NOW}
    first = plan_runs([Firing(task, schedule_id=schedule.pk, **at)], now=NOW, actor=ACTOR)
    assert first.run_ids != [None]
    again = [Firing(task, schedule_id=schedule.pk, **at), Firing(task, schedule_id=other.pk, **at)]
    second = plan_runs(again, now=NOW, actor=ACTOR)
    assert second.run_ids[0] is None and second.run_ids[1] is not None
    assert Run.objects.filter(schedule=schedule).count() == Run.objects.filter(schedule=other).count() == 1


def test_a_firing_that_was_planned_before_plans_nothing_downstream_again():
    a, b = make_task(), make_task()
    depend(a, b)
    firing = Firing(a, RunType.MANUAL, NOW, idempotency_key="k")
    first = plan_runs([firing], now=NOW, actor=ACTOR)
    second = plan_runs([firing], now=later(hours=1), actor=ACTOR)
    assert (first.downstream, second.downstream, second.run_ids) == (1, 0, [None])
    assert Run.objects.count() == RunEvent.objects.count() == 2


def test_an_idempotency_key_belongs_to_its_task():
    a, b = make_task(), make_task()
    firings = [Firing(task, RunType.MANUAL, NOW, idempotency_key="k") for task in (a, b)]
    ids = plan_runs(firings, now=NOW, actor=ACTOR).run_ids
    assert None not in ids and len(set(ids)) == 2


def test_ids_come_in_the_order_of_the_firings():
    task = make_task()
    plan_runs([Firing(task, RunType.MANUAL, NOW, idempotency_key="old")], now=NOW, actor=ACTOR)
    keys = [None, "a", None, "old", "b", None]
    firings = [
        Firing(task, RunType.MANUAL, NOW, params={"place": place}, idempotency_key=key)
        for place, key in enumerate(keys)
    ]
    ids = plan_runs(firings, now=NOW, actor=ACTOR).run_ids
    assert ids[3] is None
    placed = dict(Run.objects.filter(pk__in=[id for id in ids if id]).values_list("pk", "params"))
    assert [placed[id]["place"] for id in ids if id] == [0, 1, 2, 4, 5]


def test_a_task_that_is_being_deleted_is_left_out_of_the_downstream():
    a, b, c = make_task("a"), make_task("b"), make_task("c")
    depend(a, b, c)
    type(b).objects.filter(pk=b.pk).update(version=None)
    (root,) = plan(a)
    assert set(Run.objects.filter(root=root).values_list("task", flat=True)) == set()
    assert Run.objects.get(pk=root).task_id == a.pk


def test_ten_thousand_runs_take_as_many_statements_as_two():
    keyed: dict[str, Any] = {"concurrency_key": "{{ params.x }}", "params": {"x": 1}}
    a, b, c = make_task(), make_task(**keyed), make_task()
    depend(a, b)
    depend(a, c)
    few = statements(lambda: plan(a, 2))
    many = statements(lambda: plan(a, 10_000))
    assert Run.objects.count() == 3 * 10_002
    assert RunDependency.objects.count() == 2 * 10_002
    assert many == few
    alone = make_task()
    assert statements(lambda: plan(alone, 10_000)) < few


def test_nothing_to_plan_asks_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert plan_runs([], now=NOW, actor=ACTOR).run_ids == []
