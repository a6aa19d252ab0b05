"""Pools and tasks whose workers are agents: nothing is announced to them, and they get what they can execute."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher_app.explain import explain
from dispatcher_app.publish import for_broker
from dispatcher_app.release import Released, release_ready
from dispatcher_app.rescue import find_unclaimed
from monitoring_app.invariants import check_invariants
from tasks_app.models import Pool, Run, Task, TaskVersion
from tests.tasks_app.making import ACTOR, NOW, enqueue, later, make_pool, make_task, make_worker, plan
from tests.workers_app.agents import make_key
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
SHELL: dict[str, Any] = {"executor": "shell", "command": "true"}


def make_agent(pool: Pool | None = None, *executors: str, **fields: Any) -> Worker:
    return make_worker(pool, key=make_key()[0], executors=executors or ["python", "shell"], **fields)


def release() -> list[Released]:
    return release_ready(NOW, actor=ACTOR)


def announced(runs: list[Released]) -> set[int]:
    return {run.id for run in for_broker(runs)}


def add_version(task: Task, **fields: Any) -> None:
    task.version = TaskVersion.objects.create(task=task, number=2, **fields)
    task.save(update_fields=["version"])


def test_a_pool_of_agents_alone_gets_no_messages_and_every_other_does():
    ours, mixed, empty, gone = (make_pool(name) for name in ("ours", "mixed", "empty", "gone"))
    make_agent(ours)
    make_worker(ours, state="offline")
    make_agent(mixed)
    make_worker(mixed, state="draining")
    make_agent(gone, state="lost")
    ids = {pool.name: plan(make_task(pool=pool, **SHELL))[0] for pool in (ours, mixed, empty, gone)}
    assert announced(release()) == {ids["mixed"], ids["empty"]}


def test_without_agents_everything_is_announced():
    (id,) = plan(make_task())
    assert announced(release()) == {id} and for_broker([]) == []


def test_a_run_that_goes_to_one_agent_alone_is_not_announced():
    agent, worker = make_agent(labels={"edge": "true"}), make_worker(labels={"core": "true"})
    (to_agent,), (to_worker,) = (
        plan(make_task(required_labels="edge", **SHELL)),
        plan(make_task(required_labels="core")),
    )
    released = release()
    assert {run.id: run.target for run in released} == {to_agent: agent.pk, to_worker: worker.pk}
    assert announced(released) == {to_worker}


def test_what_no_agent_has_asked_for_yet_is_not_published_again_and_what_a_worker_has_not_heard_of_is():
    ours = make_pool("ours")
    make_agent(ours)
    (id,) = plan(make_task(pool=ours, **SHELL))
    enqueue(id)
    asked: list[str] = []

    def is_empty(address: str) -> bool:
        asked.append(address)
        return True

    assert find_unclaimed(later(minutes=1), is_empty=is_empty) == [] and asked == []
    make_worker(ours)
    assert [run.id for run in find_unclaimed(later(minutes=1), is_empty=is_empty)] == [id]


def test_a_queue_is_not_made_for_an_agent_to_which_a_run_goes_alone():
    make_agent(labels={"edge": "true"})
    plan(make_task(required_labels="edge", **SHELL))
    release()
    assert find_unclaimed(later(minutes=1), is_empty=pytest.fail) == []


@pytest.mark.parametrize("routing", ["least_loaded", "round_robin", "random", "consistent_hash"])
def test_a_task_goes_to_agents_that_can_execute_it_alone(routing):
    make_agent(None, "python")
    shell, worker = make_agent(None, "shell"), make_worker(slots=1)
    ids = plan(make_task(routing=routing, **SHELL), 8)
    calls = plan(make_task(routing=routing), 4)
    targets = {run.id: run.target for run in release()}
    assert {targets[id] for id in ids} <= {shell.pk, worker.pk} and {targets[id] for id in calls} == {worker.pk}


def test_a_task_that_no_agent_can_execute_waits_and_explain_says_so():
    make_agent(labels={"edge": "true"})
    (id,) = plan(make_task(required_labels="edge"))
    assert release() == []
    closed = {gate.name for gate in explain(Run.objects.get(pk=id), NOW).gates if not gate.open}
    assert "labels" in closed


def test_explain_says_that_a_pool_has_only_agents_that_cannot_execute_a_run():
    make_agent()
    (call,), (shell,) = plan(make_task()), plan(make_task(**SHELL))
    enqueue(call, shell)
    gate = explain(Run.objects.get(pk=call), NOW).first_closed
    assert gate is not None and gate.name == "worker" and "callable" in gate.detail
    assert explain(Run.objects.get(pk=shell), NOW).first_closed is None


def test_a_run_that_an_older_version_planned_goes_by_the_executor_of_that_version():
    agent, worker = make_agent(slots=100), make_worker(slots=1)
    task = make_task(routing="least_loaded")
    old = plan(task, 4)
    add_version(task, **SHELL)
    new = plan(task, 4)
    targets = {run.id: run.target for run in release()}
    assert {targets[id] for id in old} == {worker.pk} and {targets[id] for id in new} == {agent.pk}


def test_a_run_that_an_older_version_planned_waits_while_only_agents_are_there():
    make_agent()
    task = make_task(routing="least_loaded")
    (old,) = plan(task)
    add_version(task, **SHELL)
    (new,) = plan(task)
    assert [run.id for run in release()] == [new]
    assert Run.objects.get(pk=old).state == "waiting"


def test_a_broadcast_goes_to_the_agents_that_can_execute_it_too():
    agent, worker = make_agent(), make_worker()
    make_agent(None, "python")
    plan(make_task(routing="broadcast", **SHELL))
    release()
    assert set(Run.objects.values_list("target_id", flat=True)) >= {agent.pk, worker.pk}
    assert Run.objects.count() == 2


def test_a_callable_that_waits_beside_agents_is_not_overlooked_and_a_shell_run_is():
    make_agent()
    ids = [*plan(make_task()), *plan(make_task(**SHELL))]
    enqueue(*ids)
    Worker.objects.update(lease_until=later(days=1))
    found = [violation for violation in check_invariants(later(hours=1), since=None) if violation.invariant == "I8"]
    assert [violation.ids for violation in found] == [(ids[1],)]
