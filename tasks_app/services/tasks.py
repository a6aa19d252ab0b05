"""Tasks: create, change, delete, pause, resume."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.roles import Verb, require
from access_app.second_person import held
from tasks_app import executors, transitions
from tasks_app.errors import InvalidInput
from tasks_app.models import Run, RunDependency, Schedule, Task, TaskVersion
from tasks_app.models.schedule import ScheduleKind
from tasks_app.services import places, schedules, secrets
from tasks_app.services.locks import locked_task
from tasks_app.services.pauses import pause, resume
from tasks_app.services.resources import default_pool
from tasks_app.services.tags import check_tag, etag
from tasks_app.services.task_resources import amounts_of, set_amounts
from tasks_app.services.task_rules import check_limits, check_tags, check_weight
from tasks_app.states import Reason, RunState
from tasks_app.wakeup import nudge

__all__ = ["create", "delete", "describe", "etag", "pause", "resume", "short_schedule", "update"]
TASK_FIELDS = (
    "project",
    "name",
    "description",
    "task_type",
    "tags",
    "pool",
    "priority",
    "overlap",
    "max_concurrent",
    "weight",
    "concurrency_key",
    "max_concurrent_per_key",
    "rate_limit",
    "rate_window_seconds",
    "start_deadline_seconds",
    "auto_pause_after",
    "routing",
    "routing_key",
    "routing_workers",
    "shards",
    "required_labels",
    "trigger_rule",
)
VERSION_FIELDS = (
    "executor",
    "command",
    "params",
    "secrets",
    "timeout_seconds",
    "retry_count",
    "retry_delay_seconds",
    "retry_cap_seconds",
    "retry_jitter",
    "never_retry",
    "retry_budget_seconds",
    "retry_on_lost",
    "poison_limit",
    "memory_limit_mb",
    "cpu_limit_seconds",
    "open_files_limit",
)
LONGEST_TIMEOUT = 30 * 24 * 3600
MOST_RETRIES = 1000
DELETE_BATCH = 2000


@held(Kind.EDIT, "tasks.create", places.of_task_fields)
def create(actor: Actor, fields: dict[str, Any], *, now: datetime, paused: bool = False) -> Task:
    """Create a task with its first version and, where `schedule` is a cron string, its schedule.

    `fields` holds TASK_FIELDS (project and pool as objects), VERSION_FIELDS, `resources` ({name: amount}), `schedule`;
    what is left out takes its default, the pool the one named default. Raises InvalidInput at the field that is wrong,
    NotFound or PermissionRefused for the project.
    """
    require(actor, Verb.EDIT, fields["project"].pk)
    fields = fields if "pool" in fields else {**fields, "pool": default_pool()}
    task = Task(paused=paused, **{name: fields[name] for name in TASK_FIELDS if name in fields})
    version = TaskVersion(number=1, created_by=actor.user, **{n: fields[n] for n in VERSION_FIELDS if n in fields})
    _validate(task, version)
    secrets.check_task(task, version)
    check_weight(task, now=now)
    with transaction.atomic():
        _save_unique(task, None)
        version.task = task
        version.save()
        task.version = version
        task.save(update_fields=["version", "updated_at"])
        if fields.get("resources"):
            set_amounts(task, fields["resources"])
        if fields.get("schedule"):
            _set_short_schedule(actor, task, fields["schedule"], now)
        audit.append(actor, "create", task, now=now, after=describe(task))
        nudge()
    return task


@held(Kind.EDIT, "tasks.update", places.of_task, tag=etag)
def update(actor: Actor, task: Task, fields: dict[str, Any], *, now: datetime, expected: str | None = None) -> Task:
    """Change some fields; a change of how the task is executed adds a version. Runs in flight keep theirs.

    `expected` is the ETag that the editor saw; raises StaleEdit when the task or a schedule of it has changed since,
    NotFound when it was deleted meanwhile.
    """
    require(actor, Verb.EDIT, task.project_id)
    if "project" in fields:
        require(actor, Verb.EDIT, fields["project"].pk)
    with transaction.atomic():
        if fields.keys() & {"name", "schedule"}:
            _lock_schedules(task)
        task = locked_task(task)
        check_tag(task, expected)
        before, allotted = describe(task), (task.weight, task.pool_id)
        for name in TASK_FIELDS:
            if name in fields:
                setattr(task, name, fields[name])
        version = _next_version(actor, task, fields)
        _validate(task, version)
        # A secret that went meanwhile is no fault of an edit of something else.
        if before != before | {"secrets": version.secrets, "params": version.params, "project": task.project.name}:
            secrets.check_task(task, version)
        if task.project.name != before["project"]:
            schedules.check_new_project(task)
        if (task.weight, task.pool_id) != allotted:
            check_weight(task, now=now)
        if task.name != before["name"]:
            schedules.follow_new_name(task, now=now)
        if version._state.adding:
            version.save()
            task.version = version
        _save_unique(task, [*TASK_FIELDS, "version", "updated_at"])
        if "resources" in fields:
            set_amounts(task, fields["resources"])
        if "schedule" in fields:
            _set_short_schedule(actor, task, fields["schedule"], now)
            task.refresh_from_db(fields=["updated_at"])
        old, new = audit.changes(before, describe(task))
        audit.append(actor, "update", task, now=now, before=old, after=new)
        nudge()
    return task


@held(Kind.EDIT, "tasks.delete", places.of_task, tag=etag)
def delete(actor: Actor, task: Task, *, now: datetime, expected: str | None = None) -> None:
    """Delete the task with its schedules and history. Workers end what is still running of it at their next beat.

    Runs of other tasks that wait for a run of this one end as upstream_failed: nobody could judge them any more.
    `expected` and what is raised: as for `update`.
    """
    require(actor, Verb.EDIT, task.project_id)
    with transaction.atomic():
        _lock_schedules(task)
        task = locked_task(task, no_key=False)
        check_tag(task, expected)
        audit.append(actor, "delete", task, now=now, before=describe(task))
        _give_up_downstream(actor, task, now)
        # The current version is protected by the task that points to it, and versions by the runs made of them.
        Task.objects.filter(pk=task.pk).update(version=None)
        while ids := list(task.runs.order_by("pk").values_list("pk", flat=True)[:DELETE_BATCH]):
            Run.objects.filter(pk__in=ids).delete()
        task.delete()
        nudge()


def describe(task: Task) -> dict[str, Any]:
    """The task as plain values, for the audit trail."""
    version = task.version
    assert isinstance(version, TaskVersion)
    values: dict[str, Any] = {name: getattr(task, name) for name in TASK_FIELDS}
    values |= {"project": task.project.name, "pool": task.pool.name, "paused": task.paused}
    values |= {name: getattr(version, name) for name in VERSION_FIELDS}
    return values | {"resources": amounts_of(task), "schedule": short_schedule(task)}


def short_schedule(task: Task) -> str | None:
    """The cron expression of a task with exactly one schedule, a cron one; else None."""
    rows = list(task.schedules.all())
    return rows[0].expression if len(rows) == 1 and rows[0].kind == ScheduleKind.CRON else None


def _lock_schedules(task: Task) -> None:
    """Before the task itself, in the order in which a dispatcher that fires them comes to both."""
    list(Schedule.objects.filter(task=task).order_by("pk").select_for_update(of=("self",)).values_list("pk"))


def _give_up_downstream(actor: Actor, task: Task, now: datetime) -> None:
    """Settle what waits for a run of this task of which the dispatchers have not told yet."""
    below = RunDependency.objects.filter(
        upstream__task=task,
        upstream__tell_downstream=True,
        downstream__state=RunState.WAITING,
        downstream__upstream_ready=False,
    ).exclude(downstream__task=task)
    detail = f"The task {task.name} was deleted before its run was over."
    ids = below.values_list("downstream_id", flat=True).distinct()
    verdicts = {id: (RunState.UPSTREAM_FAILED, str(Reason.UPSTREAM), detail) for id in ids}
    if verdicts:
        transitions.settle(verdicts, now=now, actor=actor.name)


def _next_version(actor: Actor, task: Task, fields: dict[str, Any]) -> TaskVersion:
    current = task.version
    assert isinstance(current, TaskVersion)
    values = {name: fields.get(name, getattr(current, name)) for name in VERSION_FIELDS}
    if all(values[name] == getattr(current, name) for name in VERSION_FIELDS):
        return current
    return TaskVersion(task=task, number=current.number + 1, created_by=actor.user, **values)


def _validate(task: Task, version: TaskVersion) -> None:
    executors.check(version.executor, version.command)
    executors.check_params(version.executor, version.params)
    executors.check_macros(version.params)
    if not 1 <= version.timeout_seconds <= LONGEST_TIMEOUT:
        raise InvalidInput(timeout_seconds=_("The timeout must be between 1 second and 30 days."))
    if not 0 <= version.retry_count <= MOST_RETRIES:
        raise InvalidInput(retry_count=_("The number of retries must be between 0 and 1000."))
    for text in ("name", "description", "task_type"):
        if "\x00" in getattr(task, text):
            raise InvalidInput(**{text: _("This must not contain a NUL character.")})
    check_tags(task.tags)
    check_limits(task, version)
    try:
        task.clean_fields(exclude=["version"])
        version.clean_fields(exclude=["task", "params", "secrets"])
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error


def _save_unique(task: Task, update_fields: list[str] | None) -> None:
    try:
        with transaction.atomic():
            task.save(update_fields=update_fields)
    except IntegrityError as error:
        raise InvalidInput(name=_("A task of this name exists in the project already.")) from error


def _set_short_schedule(actor: Actor, task: Task, expression: str | None, now: datetime) -> None:
    rows = list(Schedule.objects.filter(task=task).select_related("task"))
    if len(rows) > 1 or (rows and rows[0].kind != ScheduleKind.CRON):
        raise InvalidInput(schedule=_("This task has other schedules; change them one by one."))
    try:
        if not expression:
            for row in rows:
                schedules.delete(actor, row, now=now)
        elif not rows:
            schedules.create(actor, task, {"kind": "cron", "expression": expression}, now=now)
        elif rows[0].expression != expression:
            schedules.update(actor, rows[0], {"expression": expression}, now=now)
    except InvalidInput as error:
        raise InvalidInput(schedule=[text for texts in error.errors.values() for text in texts]) from error
