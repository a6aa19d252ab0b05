"""explain lists every gate in one order, and says what the next tick does."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from dispatcher_app.acceptance import accept_ended
from dispatcher_app.expiry import expire
from dispatcher_app.explain import Explanation, Gate, explain
from dispatcher_app.release import release_ready
from tasks_app import transitions
from tasks_app.models import Backfill, Calendar, Project, RateStart, Resource, Run, RunPeriod, Task, TaskResource
from tasks_app.moves import Outcome
from tasks_app.states import LIVE, TERMINAL, RunState
from tests.tasks_app.making import (
    ACTOR,
    ANSWERED,
    NOW,
    bring,
    depend,
    enqueue,
    later,
    make_pool,
    make_task,
    make_worker,
    member,
    plan,
    start,
)

pytestmark = pytest.mark.django_db
ORDER = [
    *("state", "hold", "due", "start_deadline", "upstream", "period", "pause", "overlap", "key", "pool"),
    *(
        "resource_capacity",
        "resource_rate",
        "resource_window",
        "resource_breaker",
        "rate",
        "backfill",
        "labels",
        "routing",
        "turn",
        "worker",
    ),
]


@pytest.fixture(autouse=True)
def _worker() -> None:
    make_worker()


def explained(id: int, **options: Any) -> Explanation:
    return explain(Run.objects.select_related("task", "pool").get(pk=id), NOW, **options)


def closed(id: int) -> list[Gate]:
    found = explained(id)
    assert [gate.name for gate in found.gates] == ORDER
    assert all(gate.detail for gate in found.gates)
    return [gate for gate in found.gates if not gate.open]


def only(id: int, name: str) -> Gate:
    """The one gate that is closed, which must be that one."""
    gates = closed(id)
    assert [gate.name for gate in gates] == [name]
    return gates[0]


def run_for(task: Task, *, took: timedelta, started: timedelta = timedelta(0), **fields: Any) -> int:
    """A running run of the task, which has one that succeeded and took so long."""
    done, live = plan(task, 2)
    start(done, now=NOW - took)
    outcome = Outcome(done, 1, RunState.SUCCEEDED)
    transitions.finish([outcome], worker_id=ANSWERED, now=NOW, actor=ACTOR)
    start(live, now=NOW - started)
    Run.objects.filter(pk=live).update(**fields)
    return live


# Gate by gate


def test_a_run_that_nothing_keeps_starts_at_the_next_look():
    (id,) = plan(make_task())
    assert closed(id) == []
    assert explained(id).first_closed is None


def test_a_held_run_says_so_and_all_other_gates_too():
    (id,) = plan(make_task(paused=True, paused_reason="mends"), due_at=later(hours=1))
    Run.objects.filter(pk=id).update(held=True)
    gates = closed(id)
    assert [gate.name for gate in gates] == ["hold", "due", "pause"]
    first = explained(id).first_closed
    assert first is not None and first.name == "hold"
    assert gates[1].estimate_at == later(hours=1)
    assert "mends" in gates[2].detail


def test_a_run_past_its_deadline_expires():
    (id,) = plan(make_task())
    Run.objects.filter(pk=id).update(expires_at=later(seconds=1))
    assert closed(id) == []
    Run.objects.filter(pk=id).update(expires_at=NOW)
    assert "start_deadline" in [gate.name for gate in closed(id)]
    Run.objects.filter(pk=id).update(attempt=2)
    assert closed(id) == []


def test_a_run_below_others_names_those_that_have_not_ended():
    a, b, down = make_task("a"), make_task("b"), make_task()
    depend(a, b, down)
    depend(a, down)
    (root,) = plan(a)
    below = member(root, down).pk
    bring(root, RunState.SUCCEEDED)
    gate = only(below, "upstream")
    assert [(holder.run, holder.task) for holder in gate.holders] == [(member(root, b).pk, "b")]
    bring(member(root, b).pk, RunState.SUCCEEDED)
    assert closed(below) == [], "the next tick tells it before it releases"


def test_a_run_whose_trigger_rule_cannot_hold_will_not_run():
    up, down = make_task(), make_task()
    depend(up, down)
    (root,) = plan(up)
    bring(root, RunState.FAILED)
    assert "will not run" in only(member(root, down).pk, "upstream").detail


def test_a_run_that_waits_for_a_period_says_which():
    (id,) = plan(make_task())
    Run.objects.filter(pk=id).update(upstream_ready=False)
    RunPeriod.objects.create(run_id=id, upstream_task=make_task("sales"), start=NOW, end=later(hours=1), policy="wait")
    assert "sales" in only(id, "period").detail


def test_a_pause_with_an_end_is_an_estimate():
    (id,) = plan(make_task(paused=True, pause_mode="queue", paused_until=later(hours=2)))
    assert only(id, "pause").estimate_at == later(hours=2)
    Task.objects.update(pause_mode="drain")
    assert closed(id) == []


def test_a_full_task_names_who_holds_its_slots_and_when_one_is_likely_to_come_free():
    task = make_task("load", max_concurrent=1)
    live = run_for(task, took=timedelta(minutes=10), started=timedelta(minutes=4))
    (id,) = plan(task)
    gate = only(id, "overlap")
    assert [(holder.run, holder.task, holder.state) for holder in gate.holders] == [(live, "load", "running")]
    assert gate.estimate_at == later(minutes=6)
    assert "1 of 1" in gate.detail


def test_a_holder_that_is_late_already_gives_no_estimate():
    task = make_task(max_concurrent=1)
    run_for(task, took=timedelta(minutes=1), started=timedelta(minutes=4))
    (id,) = plan(task)
    assert only(id, "overlap").estimate_at is None


def test_a_run_that_will_be_skipped_says_so():
    task = make_task(overlap="skip")
    (live,) = plan(task)
    start(live)
    (id,) = plan(task)
    gate = only(id, "overlap")
    assert f"#{live}" in gate.detail and "skip" in gate.detail


def test_a_full_key_names_the_runs_of_that_key_alone():
    task = make_task(max_concurrent_per_key=1)
    live, other, id = plan(task, 3)
    for one, key in ((live, "a"), (other, "b"), (id, "a")):
        Run.objects.filter(pk=one).update(concurrency_key=key)
    enqueue(live, other)
    assert [holder.run for holder in only(id, "key").holders] == [live]


def test_a_pool_without_enough_free_slots_names_its_live_runs():
    pool = make_pool("small", slots=3)
    make_worker(pool)
    light, heavy = make_task("light", pool=pool, weight=2), make_task(pool=pool, weight=2)
    (live,), (id,) = plan(light), plan(heavy)
    enqueue(live)
    gate = only(id, "pool")
    assert [(holder.run, holder.task) for holder in gate.holders] == [(live, "light")]
    assert "2 of 3" in gate.detail


def test_each_limit_of_a_resource_is_a_gate_of_its_own():
    hours = {"blackout": [{"kind": "weekly", "from": "12:00", "to": "13:00", "name": "backup"}]}
    resource = Resource.objects.create(
        name="api",
        capacity=2,
        rate_limit=1,
        rate_window_seconds=60,
        calendar=Calendar.objects.create(name="nights", document=hours),
        breaker_state="open",
        breaker_open_until=later(minutes=5),
    )
    user, task = make_task("user"), make_task()
    TaskResource.objects.create(task=user, resource=resource, amount=2)
    TaskResource.objects.create(task=task, resource=resource)
    (live,), (id,) = plan(user), plan(task)
    enqueue(live)
    RateStart.objects.create(task=user, at=NOW - timedelta(seconds=20))
    gates = {gate.name: gate for gate in closed(id)}
    assert list(gates) == ["resource_capacity", "resource_rate", "resource_window", "resource_breaker"]
    assert [holder.run for holder in gates["resource_capacity"].holders] == [live]
    assert gates["resource_rate"].estimate_at == later(seconds=40)
    assert "backup" in gates["resource_window"].detail
    assert gates["resource_window"].estimate_at == NOW.replace(hour=13, minute=0, second=0)
    assert gates["resource_breaker"].estimate_at == later(minutes=5)
    assert all("api" in gate.detail for gate in gates.values())
    resource.refresh_from_db()
    assert resource.breaker_state == "open", "a look changes nothing"


def test_a_rate_says_from_when_on_it_allows_a_start():
    task = make_task(rate_limit=2, rate_window_seconds=60)
    (id,) = plan(task)
    for seconds in (50, 10):
        RateStart.objects.create(task=task, at=NOW - timedelta(seconds=seconds))
    assert only(id, "rate").estimate_at == later(seconds=10)


def test_a_paused_backfill_keeps_its_runs():
    task = make_task()
    batch = Backfill.objects.create(task=task, start_at=NOW, end_at=NOW, created_at=NOW, state="paused")
    (id,) = plan(task)
    Run.objects.filter(pk=id).update(backfill=batch)
    assert "paused" in only(id, "backfill").detail


def test_a_run_whose_turn_has_not_come_says_how_many_are_before_it():
    pool = make_pool("small", slots=2)
    make_worker(pool)
    ids = plan(make_task(pool=pool), 4)
    assert [closed(id) for id in ids[:2]] == [[], []]
    assert only(ids[2], "turn").detail.endswith(": 2.")


def test_a_pool_without_a_worker_is_told_though_release_does_not_ask():
    (id,) = plan(make_task(pool=make_pool("lonely")))
    assert "lonely" in only(id, "worker").detail


# Other states


def test_a_queued_run_waits_for_a_worker():
    pool = make_pool("busy")
    worker = make_worker(pool, slots=1)
    task = make_task(pool=pool)
    live, id = plan(task, 2)
    enqueue(id)
    assert [(gate.name, gate.open) for gate in explained(id).gates] == [("state", True), ("worker", True)]
    start(live, worker_id=worker.pk)
    gate = explained(id).first_closed
    assert gate is not None and (gate.name, [holder.run for holder in gate.holders]) == ("worker", [live])


@pytest.mark.parametrize("state", sorted(TERMINAL | {RunState.RUNNING}))
def test_a_run_that_waits_for_nothing_says_where_it_is(state):
    (id,) = plan(make_task())
    bring(id, state)
    (gate,) = explained(id).gates
    assert (gate.name, gate.open) == ("state", state is RunState.RUNNING)
    assert "running" in gate.detail if state is RunState.RUNNING else str(state) in gate.detail


def test_holders_are_named_only_to_those_who_may_see_them():
    pool = make_pool("small", slots=1)
    make_worker(pool)
    foreign = make_task(pool=pool, project=Project.objects.create(name="secret"))
    (live,), (id,) = plan(foreign), plan(make_task(pool=pool))
    enqueue(live)
    assert [holder.run for holder in only(id, "pool").holders] == [live]
    mine = Run.objects.filter(task__project__name="default")
    (gate,) = [gate for gate in explained(id, visible=mine).gates if gate.name == "pool"]
    assert (gate.open, gate.holders) == (False, [])


# The promise: all open means released, and the other way round


def _situation(seed: int) -> None:
    """Some tasks, pools, resources and runs in any state, with limits that are often full."""
    chance = random.Random(seed)
    rates = [{}, {}, {"rate_limit": 1, "rate_window_seconds": 60}, {"rate_limit": 2, "rate_window_seconds": 60}]
    pools = [make_pool("a", slots=chance.randint(1, 6)), make_pool("b"), make_pool("c", slots=3)]
    resources = [
        Resource.objects.create(
            name=f"r{n}",
            capacity=chance.choice([None, 2, 3]),
            **chance.choice([{}, {"rate_limit": 1, "rate_window_seconds": 60}]),
            **chance.choice(
                [
                    {},
                    {"breaker_state": "open", "breaker_open_until": later(seconds=chance.choice([-1, 5]))},
                    {"breaker_state": "half_open", "breaker_wave": 2, "breaker_changed_at": later(minutes=-9)},
                ]
            ),
        )
        for n in range(2)
    ]
    for pool in pools:
        make_worker(pool)
    for _ in range(chance.randint(3, 6)):
        task = make_task(
            pool=chance.choice(pools),
            weight=chance.choice([1, 1, 2, 3]),
            priority=chance.choice([10, 50, 90]),
            overlap=chance.choice(["allow", "allow", "skip", "queue_one", "queue_all", "cancel_running"]),
            max_concurrent=chance.choice([None, None, 1, 3]),
            max_concurrent_per_key=chance.choice([1, 2]),
            paused=chance.random() < 0.15,
            pause_mode=chance.choice(["queue", "drain"]),
            **dict[str, Any](chance.choice(rates)),
        )
        for resource in chance.sample(resources, chance.choice([0, 0, 1, 2])):
            TaskResource.objects.create(task=task, resource=resource, amount=chance.choice([1, 2]))
        batch = Backfill.objects.create(
            task=task,
            start_at=NOW,
            end_at=NOW,
            created_at=NOW,
            max_concurrent=chance.choice([1, 2]),
            state=chance.choice(["active", "active", "paused"]),
        )
        if chance.random() < 0.5:
            RateStart.objects.create(task=task, at=later(seconds=-chance.randint(1, 80)))
        for id in plan(task, chance.randint(1, 6)):
            Run.objects.filter(pk=id).update(
                concurrency_key=chance.choice(["", "", "x", "y"]),
                due_at=later(seconds=chance.choice([-200, -90, -5, 0, 0, 7])),
                held=chance.random() < 0.1,
                priority=chance.choice([task.priority, 70]),
                expires_at=chance.choice([None, None, None, later(seconds=chance.choice([-1, 0, 9]))]),
                backfill=chance.choice([None, None, batch]),
            )
            if chance.random() < 0.25:
                enqueue(id, now=later(seconds=-chance.randint(1, 60)))


@pytest.mark.parametrize("seed", range(40))
def test_a_run_is_released_by_the_next_tick_exactly_when_all_its_gates_are_open(seed):
    _situation(seed)
    waiting = Run.objects.filter(state=RunState.WAITING).values_list("pk", flat=True)
    told = {id: [gate.name for gate in closed(id)] for id in waiting}
    expire(NOW, actor=ACTOR)
    released = {run.id for run in release_ready(NOW, actor=ACTOR)}
    wrong = {id: names for id, names in told.items() if (not names) != (id in released)}
    assert wrong == {}, f"released were {sorted(released)}"


def test_some_situations_release_and_some_gates_of_each_kind_are_closed():
    """What the test above rests on: its situations are not all alike."""
    seen: set[str] = set()
    released = 0
    for seed in range(12):
        with transaction.atomic():
            _situation(seed)
            for id in Run.objects.filter(state=RunState.WAITING).values_list("pk", flat=True):
                seen |= {gate.name for gate in closed(id)}
            released += len(release_ready(NOW, actor=ACTOR))
            transaction.set_rollback(True)
    assert released > 10
    assert seen >= {"hold", "due", "start_deadline", "pause", "overlap", "key", "pool", "rate", "backfill", "turn"}
    assert seen >= {"resource_capacity", "resource_rate", "resource_breaker"}


# Cost


def test_it_takes_as_many_statements_however_many_runs_wait():
    task = make_task(max_concurrent=3, pool=make_pool("small", slots=3))
    ids = plan(task, 4)
    enqueue(ids[0])

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            explained(ids[1])
        return len(captured)

    few = statements()
    plan(task, 1000)
    assert statements() == few


def test_accepting_first_makes_the_same_answer():
    up, down = make_task(), make_task()
    depend(up, down)
    (root,) = plan(up)
    bring(root, RunState.SUCCEEDED)
    below = member(root, down).pk
    assert closed(below) == []
    accept_ended(NOW, actor=ACTOR)
    assert closed(below) == []
    assert [run.id for run in release_ready(NOW, actor=ACTOR)] == [below]
    assert Run.objects.get(pk=below).state in LIVE
