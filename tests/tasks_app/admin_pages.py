"""What tests of the admin share: addresses, forms as they are typed, and what came back."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from django.utils import timezone

from access_app.actors import system_actor
from tasks_app.models import (
    Pool,
    Project,
    Run,
    Task,
)
from tasks_app.services import runs, tasks

ACTOR = system_actor("command tester")


def page(model: Any, name: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=arguments)


def make_task(name: str = "daily", project: Project | None = None, **fields: Any) -> Task:
    where = {"project": project or Project.objects.get(name="default"), "pool": Pool.objects.get(name="default")}
    how = {"executor": "shell", "command": "echo"} | fields
    return tasks.create(ACTOR, {"name": name, **where, **how}, now=timezone.now())


def make_run(task: Task) -> Run:
    return runs.trigger(ACTOR, task, runs.Request(), now=timezone.now())[0]


def task_form(**fields: Any) -> dict[str, Any]:
    return {
        "project": Project.objects.get(name="default").pk,
        "pool": Pool.objects.get(name="default").pk,
        "name": "typed",
        "priority": 50,
        "overlap": "allow",
        "weight": 1,
        "max_concurrent_per_key": 1,
        "retry_cap_seconds": 3600,
        "poison_limit": 3,
        "retry_jitter": "on",
        "trigger_rule": "all_success",
        "executor": "shell",
        "command": "echo hello",
        "params": "{}",
        "timeout_seconds": 60,
        "retry_count": 0,
        "retry_delay_seconds": 10,
    } | fields


def schedule_form(for_task: Task, **fields: Any) -> dict[str, Any]:
    return {
        "task": for_task.pk,
        "kind": "cron",
        "expression": "0 2 * * *",
        "time_zone": "UTC",
        "dst_gap": "run_after",
        "dst_repeat": "first",
        "catch_up": "last",
        "catch_up_window_seconds": 3600,
        "max_catch_up": 100,
        "enabled": "on",
    } | fields


def errors_of(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200, response.status_code
    found: dict[str, list[str]] = dict(response.context["adminform"].form.errors)
    return found


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]
