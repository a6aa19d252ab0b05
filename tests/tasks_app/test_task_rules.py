"""Limits and retries of tasks: what is kept, and each mistake at its own field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app.errors import InvalidInput
from tasks_app.models import Project, Resource, Task, TaskResource
from tasks_app.services import resources, tasks
from tests.tasks_app.making import NOW, make_pool, make_task, make_worker
from workers_app.models import WorkerState

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


def create(**fields: Any) -> Task:
    home = {"project": Project.objects.get(name="default"), "executor": "shell", "command": "true"}
    return tasks.create(SYSTEM, {**home, "name": "t", **fields}, now=NOW)


def errors(call: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        call()
    return caught.value.errors


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rate_limit": 5}, "rate_window_seconds"),
        ({"rate_window_seconds": 60}, "rate_limit"),
        ({"rate_limit": 0, "rate_window_seconds": 60}, "rate_limit"),
        ({"concurrency_key": "{{ params.x"}, "concurrency_key"),
        ({"concurrency_key": "{{ upstream.load.rows }}"}, "concurrency_key"),
        ({"concurrency_key": "x" * 201}, "concurrency_key"),
        ({"max_concurrent_per_key": 0}, "max_concurrent_per_key"),
        ({"never_retry": {"exit_codes": ["2"]}}, "never_retry"),
        ({"never_retry": []}, "never_retry"),
        ({"retry_cap_seconds": 31 * 86400}, "retry_cap_seconds"),
        ({"retry_delay_seconds": 31 * 86400}, "retry_delay_seconds"),
        ({"retry_budget_seconds": 0}, "retry_budget_seconds"),
        ({"retry_budget_seconds": 2**31 - 1}, "retry_budget_seconds"),
        ({"memory_limit_mb": 3}, "memory_limit_mb"),
        ({"memory_limit_mb": 2**31 - 1}, "memory_limit_mb"),
        ({"cpu_limit_seconds": 0}, "cpu_limit_seconds"),
        ({"open_files_limit": 15}, "open_files_limit"),
        ({"poison_limit": 0}, "poison_limit"),
        ({"poison_limit": 101}, "poison_limit"),
        ({"executor": "http", "command": "https://a.example/", "cpu_limit_seconds": 9}, "cpu_limit_seconds"),
        ({"executor": "sql", "command": "select 1", "memory_limit_mb": 99}, "memory_limit_mb"),
        ({"weight": 0}, "weight"),
        ({"auto_pause_after": 0}, "auto_pause_after"),
        ({"start_deadline_seconds": 0}, "start_deadline_seconds"),
        ({"resources": {"nowhere": 1}}, "resources"),
        ({"resources": {"api": 0}}, "resources"),
        ({"resources": {"api": 4}}, "resources"),
        ({"resources": {f"r{n}": 1 for n in range(21)}}, "resources"),
    ],
)
def test_what_makes_no_limit_is_refused_at_its_field_in_a_new_task_and_in_an_edit(fields, field):
    Resource.objects.create(name="api", capacity=3)
    assert errors(lambda: create(**fields)).keys() == {field}
    assert not Task.objects.exists() and not AuditEntry.objects.exists()
    task = make_task()
    before = Task.objects.values().get()
    assert errors(lambda: tasks.update(SYSTEM, task, fields, now=NOW)).keys() == {field}
    assert Task.objects.values().get() == before and not TaskResource.objects.exists()


def test_what_makes_limits_is_kept():
    fields: dict[str, Any] = {
        "weight": 3,
        "concurrency_key": "{{ params.region }}",
        "max_concurrent_per_key": 2,
        "rate_limit": 5,
        "rate_window_seconds": 60,
        "auto_pause_after": 4,
    }
    version = {
        "retry_cap_seconds": 60,
        "retry_jitter": False,
        "retry_budget_seconds": 600,
        "never_retry": {"exit_codes": [2], "statuses": ["4xx"]},
        "poison_limit": 5,
        "memory_limit_mb": 512,
        "cpu_limit_seconds": 60,
        "open_files_limit": 100,
    }
    task = create(**fields, **version)
    assert Task.objects.filter(pk=task.pk, **fields).exists()
    assert task.version is not None and {name: getattr(task.version, name) for name in version} == version


# Weight


def test_a_weight_above_the_slots_of_the_pool_is_refused():
    small, large, endless = make_pool("small", 2), make_pool("large", 4), make_pool("endless")
    assert "small" in errors(lambda: create(pool=small, weight=3))["weight"][0]
    create(pool=large, weight=4, name="fits")
    task = create(pool=endless, weight=300, name="endless")
    assert errors(lambda: tasks.update(SYSTEM, task, {"pool": large}, now=NOW)).keys() == {"weight"}
    tasks.update(SYSTEM, task, {"pool": large, "weight": 4}, now=NOW)
    assert errors(lambda: tasks.update(SYSTEM, task, {"weight": 5}, now=NOW)).keys() == {"weight"}


def test_a_weight_above_every_workers_slots_is_refused_while_workers_are_known():
    pool = make_pool("batch")
    create(pool=pool, weight=9, name="before any worker")
    make_worker(pool, slots=2)
    make_worker(slots=64)
    known = make_worker(pool, slots=4, state=WorkerState.OFFLINE, stopped_at=NOW - timedelta(hours=23))
    create(pool=pool, weight=4, name="fits")
    assert "4" in errors(lambda: create(pool=pool, weight=5))["weight"][0]
    known.stopped_at = NOW - timedelta(hours=25)
    known.save()
    assert "2" in errors(lambda: create(pool=pool, weight=4))["weight"][0]


def test_an_edit_of_something_else_is_not_held_up_by_a_weight_that_no_worker_can_take_any_more():
    task = create(weight=9)
    make_worker(slots=2)
    assert tasks.update(SYSTEM, task, {"description": "new"}, now=NOW).description == "new"
    assert errors(lambda: tasks.update(SYSTEM, task, {"weight": 3}, now=NOW)).keys() == {"weight"}


def test_a_pool_keeps_the_slots_that_a_run_of_its_tasks_takes():
    pool = make_pool("batch", 8)
    create(pool=pool, weight=5, name="heavy")
    assert "heavy" in errors(lambda: resources.update_pool(SYSTEM, pool, {"slots": 4}, now=NOW))["slots"][0]
    assert resources.update_pool(SYSTEM, pool, {"slots": 5}, now=NOW).slots == 5
    assert resources.update_pool(SYSTEM, pool, {"slots": None}, now=NOW).slots is None


# Resources of a task


def amounts() -> dict[tuple[str, str], int]:
    rows = TaskResource.objects.values_list("task__name", "resource__name", "amount")
    return {(task, resource): amount for task, resource, amount in rows}


def test_resources_of_a_task_are_set_changed_and_taken_away_and_audited():
    Resource.objects.create(name="db", capacity=10)
    Resource.objects.create(name="api")
    other = create(name="other", resources={"db": 1})
    task = create(resources={"db": 2, "api": 1})
    assert amounts() == {("other", "db"): 1, ("t", "db"): 2, ("t", "api"): 1}
    tasks.update(SYSTEM, task, {"resources": {"db": 10}}, now=NOW)
    assert amounts() == {("other", "db"): 1, ("t", "db"): 10}
    entry = AuditEntry.objects.order_by("-id")[0]
    assert (entry.before, entry.after) == ({"resources": {"api": 1, "db": 2}}, {"resources": {"db": 10}})
    tasks.update(SYSTEM, task, {"description": "new"}, now=NOW)
    assert amounts()["t", "db"] == 10
    tasks.update(SYSTEM, task, {"resources": {}}, now=NOW)
    assert amounts() == {("other", "db"): 1}
    assert tasks.describe(other)["resources"] == {"db": 1}


def test_a_refused_resource_leaves_the_whole_edit_undone():
    Resource.objects.create(name="db", capacity=1)
    task = create(resources={"db": 1})
    assert errors(lambda: tasks.update(SYSTEM, task, {"name": "x", "resources": {"db": 2}}, now=NOW))
    assert amounts() == {("t", "db"): 1}


@pytest.mark.parametrize(("executor", "command"), [("container", "alpine true"), ("celery", "shop.add")])
def test_what_has_processes_of_its_own_may_be_limited(executor, command):
    limits = {"memory_limit_mb": 99, "cpu_limit_seconds": 9, "open_files_limit": 64}
    task = create(executor=executor, command=command, **limits)
    assert task.version is not None and task.version.memory_limit_mb == 99
