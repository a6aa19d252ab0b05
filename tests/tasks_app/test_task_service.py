"""Tasks: who may change them, what is refused at which field, what the audit trail and the next runs see of it."""

from __future__ import annotations

from typing import Any

import pytest

from access_app.actors import system_actor, user_actor
from access_app.models import AuditEntry
from access_app.roles import grant
from dispatcher_app.acceptance import accept_ended
from dispatcher_app.release import release_ready
from tasks_app.errors import InvalidInput, NotFound, PermissionRefused, StaleEdit
from tasks_app.models import Run, RunOutput, Schedule, Task, TaskVersion
from tasks_app.services import schedules, tasks
from tasks_app.states import RunState
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    bring,
    default_pool,
    depend,
    later,
    make_pool,
    make_task,
    member,
    plan,
    start,
    state_of,
)

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


@pytest.fixture
def fields(project: Any) -> dict[str, Any]:
    return {"project": project, "pool": default_pool(), "name": "load", "executor": "shell", "command": "true"}


@pytest.fixture
def dora(project: Any, django_user_model: Any) -> Any:
    """May edit: role editor."""
    user = django_user_model.objects.create_user("dora")
    grant(user, "editor", project)
    return user


def errors(call: Any, *arguments: Any, **options: Any) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        call(*arguments, **options)
    assert all(text and isinstance(str(text), str) for texts in caught.value.errors.values() for text in texts)
    return set(caught.value.errors)


def trail() -> list[tuple[str, str, Any, Any]]:
    return list(AuditEntry.objects.order_by("id").values_list("actor", "verb", "before", "after"))


# Create


def test_a_task_is_created_with_version_schedule_and_audit_entry(fields, dora):
    task = tasks.create(user_actor(dora), {**fields, "schedule": "0 2 * * *", "retry_count": 3}, now=NOW)
    assert task.version is not None
    assert (task.version.number, task.version.retry_count, task.version.created_by) == (1, 3, dora)
    schedule = Schedule.objects.get(task=task)
    assert (schedule.expression, schedule.fired_until) == ("0 2 * * *", NOW)
    assert [(actor, verb) for actor, verb, _b, _a in trail()] == [("user dora", "create")] * 2
    after = trail()[-1][3]
    assert (after["name"], after["schedule"], after["command"], after["retry_count"]) == (
        "load",
        "0 2 * * *",
        "true",
        3,
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"description": "a\x00b"}, "description"),
        ({"executor": "fortran"}, "executor"),
        ({"command": "   "}, "command"),
        ({"command": "a\x00b"}, "command"),
        ({"executor": "callable", "command": "not a name"}, "command"),
        ({"executor": "python", "command": "/etc/passwd"}, "command"),
        ({"executor": "http", "command": "ftp://x"}, "command"),
        ({"executor": "celery", "command": "shop.add()"}, "command"),
        ({"executor": "celery", "command": "shop.add", "params": {"args": {}}}, "params"),
        ({"executor": "sql", "command": " \n"}, "command"),
        ({"executor": "container", "command": "--privileged box"}, "command"),
        ({"executor": "container", "command": "box 'open"}, "command"),
        ({"executor": "container", "command": "box", "params": {"memory": "1 GB"}}, "params"),
        ({"executor": "container", "command": "box", "params": {"volumes": ["/:/host"]}}, "params"),
        ({"executor": "sql", "command": "select 1", "params": {"connection": "postgres://x"}}, "params"),
        ({"executor": "sql", "command": "select 1", "params": {"max_rows": 1001}}, "params"),
        ({"params": []}, "params"),
        ({"params": {"1x": 1}}, "params"),
        ({"params": {"x": "y" * 70_000}}, "params"),
        ({"priority": 101}, "priority"),
        ({"priority": -1}, "priority"),
        ({"overlap": "maybe"}, "overlap"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"trigger_rule": "often"}, "trigger_rule"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 31 * 86_400}, "timeout_seconds"),
        ({"retry_count": -1}, "retry_count"),
        ({"retry_count": 1001}, "retry_count"),
        ({"retry_delay_seconds": -1}, "retry_delay_seconds"),
        ({"schedule": "61 * * * *"}, "schedule"),
        ({"schedule": "0 0 30 2 *"}, "schedule"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_nothing_is_written(fields, change, field):
    assert errors(tasks.create, SYSTEM, {**fields, **change}, now=NOW) == {field}
    assert not Task.objects.exists() and not TaskVersion.objects.exists() and not AuditEntry.objects.exists()


def test_a_name_is_taken_once_in_a_project(fields, root_user):
    tasks.create(SYSTEM, fields, now=NOW)
    assert errors(tasks.create, SYSTEM, fields, now=NOW) == {"name"}
    tasks.create(SYSTEM, {**fields, "project": make_task().project}, now=NOW)
    assert Task.objects.filter(name="load").count() == 2


# Who may


@pytest.mark.parametrize(
    ("role", "edits", "pauses"),
    [
        (None, NotFound, NotFound),
        ("viewer", PermissionRefused, PermissionRefused),
        ("operator", PermissionRefused, None),
        ("editor", None, None),
        ("admin", None, None),
    ],
)
def test_a_role_may_do_what_its_verbs_say(project, django_user_model, fields, role, edits, pauses):
    user = django_user_model.objects.create_user("somebody")
    if role is not None:
        grant(user, role, project)
    actor, task = user_actor(user), make_task("other", project=project)
    calls = {
        edits: [
            lambda: tasks.create(actor, fields, now=NOW),
            lambda: tasks.update(actor, task, {"description": "x"}, now=NOW),
            lambda: schedules.create(actor, task, {"expression": "* * * * *"}, now=NOW),
            lambda: tasks.delete(actor, make_task(project=project), now=NOW),
        ]
    }
    calls.setdefault(pauses, []).extend(
        [lambda: tasks.pause(actor, task, now=NOW), lambda: tasks.resume(actor, task, now=NOW)]
    )
    for expected, tried in calls.items():
        for call in tried:
            if expected is None:
                call()
            else:
                before = (
                    Task.objects.filter(project=project).values_list("paused", "description").get(pk=task.pk),
                    trail(),
                )
                with pytest.raises(expected):
                    call()
                after = Task.objects.filter(project=project).values_list("paused", "description").get(pk=task.pk)
                assert (after, trail()) == before


def test_a_task_moves_to_another_project_only_by_who_may_edit_there(fields, dora, project):
    task = make_task(project=project)
    elsewhere = make_task().project
    with pytest.raises(NotFound):
        tasks.update(user_actor(dora), task, {"project": elsewhere}, now=NOW)
    assert tasks.update(SYSTEM, task, {"project": elsewhere}, now=NOW).project == elsewhere


# Change


def test_a_change_of_how_it_is_executed_adds_a_version_and_others_do_not(project, dora):
    task, actor = make_task(project=project), user_actor(dora)
    (id,) = plan(task)
    first = task.version
    assert tasks.update(actor, task, {"description": "new", "priority": 75}, now=NOW).version == first
    changed = tasks.update(actor, task, {"retry_count": 2, "priority": 75}, now=NOW).version
    assert changed is not None and first is not None
    assert (changed.number, changed.retry_count, changed.command, changed.created_by) == (2, 2, first.command, dora)
    assert Run.objects.get(pk=id).version == first
    assert TaskVersion.objects.get(pk=first.pk).retry_count == 0


def test_the_audit_trail_keeps_only_what_changed(project):
    task = make_task("old", project=project)
    tasks.update(SYSTEM, task, {"name": "new", "timeout_seconds": 5, "priority": 50}, now=NOW)
    assert trail() == [
        ("system", "update", {"name": "old", "timeout_seconds": 3600}, {"name": "new", "timeout_seconds": 5})
    ]


def test_a_stale_edit_is_refused_and_changes_nothing(project):
    task = make_task(project=project)
    seen = tasks.etag(task)
    fresh = tasks.update(SYSTEM, task, {"description": "first"}, now=NOW, expected=seen)
    assert tasks.etag(fresh) != seen
    with pytest.raises(StaleEdit):
        tasks.update(SYSTEM, task, {"description": "second"}, now=NOW, expected=seen)
    assert Task.objects.get(pk=task.pk).description == "first"
    assert tasks.pause(SYSTEM, fresh, now=NOW).paused
    with pytest.raises(StaleEdit):
        tasks.update(SYSTEM, task, {"description": "third"}, now=NOW, expected=tasks.etag(fresh))


def test_a_refused_edit_changes_nothing(project):
    task = make_task(project=project)
    before = Task.objects.values().get(pk=task.pk)
    assert errors(tasks.update, SYSTEM, task, {"description": "x", "command": ""}, now=NOW) == {"command"}
    assert errors(tasks.update, SYSTEM, task, {"description": "x", "schedule": "nonsense"}, now=NOW) == {"schedule"}
    assert Task.objects.values().get(pk=task.pk) == before
    assert TaskVersion.objects.filter(task=task).count() == 1


def test_the_short_form_of_a_schedule_creates_changes_and_removes_it(project):
    task = make_task(project=project)
    for given, expected in (("0 2 * * *", "0 2 * * *"), ("0 3 * * *", "0 3 * * *"), (None, None)):
        task = tasks.update(SYSTEM, task, {"schedule": given}, now=NOW)
        assert tasks.short_schedule(task) == expected
        assert Schedule.objects.filter(task=task).count() == (expected is not None)


def test_the_short_form_leaves_other_schedules_alone(project):
    task = make_task(project=project)
    schedules.create(SYSTEM, task, {"kind": "interval", "interval_seconds": 60}, now=NOW)
    assert tasks.short_schedule(task) is None
    assert errors(tasks.update, SYSTEM, task, {"schedule": "0 2 * * *"}, now=NOW) == {"schedule"}
    assert Schedule.objects.get(task=task).interval_seconds == 60


def test_a_new_name_moves_what_hangs_on_the_name(project):
    task = make_task("backup", project=project)
    hashed = schedules.create(SYSTEM, task, {"expression": "H H * * *"}, now=NOW)
    plain = schedules.create(SYSTEM, task, {"expression": "0 2 * * *"}, now=later(minutes=-5))
    old = hashed.next_fire_at
    tasks.update(SYSTEM, task, {"name": "restore"}, now=NOW)
    hashed.refresh_from_db()
    assert hashed.next_fire_at is not None and hashed.next_fire_at != old
    hashed.task.refresh_from_db()
    assert hashed.next_fire_at == schedules.timing_of(hashed).next_after(NOW)
    assert Schedule.objects.get(pk=plain.pk).fired_until == later(minutes=-5)


# Delete


def test_a_deleted_task_takes_its_live_runs_and_history_and_nothing_else(project, monkeypatch):
    monkeypatch.setattr(tasks, "DELETE_BATCH", 2)
    task, other = make_task(project=project), make_task(project=project)
    for victim in (task, other):
        ended, running, _waiting, more = plan(victim, 4)
        bring(ended, RunState.SUCCEEDED)
        start(running)
        bring(more, RunState.QUEUED)
        RunOutput.objects.create(run_id=ended, attempt=1, first_line=0, line_count=0, lines=[])
        schedules.create(SYSTEM, victim, {"expression": "* * * * *"}, now=NOW)
    key = task.pk
    tasks.update(SYSTEM, task, {"retry_count": 1}, now=NOW)
    tasks.delete(SYSTEM, task, now=NOW)
    assert not Task.objects.filter(pk=key).exists()
    assert set(Run.objects.values_list("task", flat=True)) == {other.pk}
    assert (Run.objects.count(), RunOutput.objects.count(), Schedule.objects.count()) == (4, 1, 1)
    assert AuditEntry.objects.filter(verb="delete", object_id=str(key)).exists()


def test_runs_that_wait_for_a_deleted_task_end_with_all_below_them(project):
    a, b, c, free = (make_task(name, project=project) for name in ("a", "b", "c", "free"))
    depend(a, b, c)
    depend(free, c)
    (root,) = plan(a)
    start(root)
    (other_root,) = plan(free)
    below, last, others = member(root, b).pk, member(root, c).pk, member(other_root, c).pk
    tasks.delete(SYSTEM, a, now=NOW)
    accept_ended(NOW, actor=ACTOR)
    assert (state_of(below), state_of(last)) == (RunState.UPSTREAM_FAILED, RunState.UPSTREAM_FAILED)
    assert "a was deleted" in Run.objects.get(pk=below).reason_detail
    assert state_of(others) == RunState.WAITING


def test_a_task_in_another_pool_competes_there_with_all_that_has_not_started(project):
    task = make_task(project=project)
    live, old = plan(task, 2)
    bring(live, RunState.QUEUED)
    fresh = tasks.update(SYSTEM, task, {"pool": make_pool("big")}, now=NOW)
    (new,) = plan(fresh)
    assert [run.id for run in release_ready(NOW, actor=SYSTEM.name)] == [old, new]
    assert [Run.objects.get(pk=id).pool.name for id in (live, old, new)] == ["default", "big", "big"]


def test_a_new_schedule_starts_in_the_installation_s_zone_by_every_way_in(project, settings, fields):
    settings.SCHEDULER_TIME_ZONE = "Asia/Shanghai"
    task = tasks.create(SYSTEM, fields | {"schedule": "0 2 * * *"}, now=NOW)
    other = schedules.create(SYSTEM, task, {"expression": "0 2 * * *"}, now=NOW)
    named = schedules.create(SYSTEM, task, {"expression": "0 2 * * *", "time_zone": "Europe/Berlin"}, now=NOW)
    zones = list(task.schedules.order_by("pk").values_list("time_zone", flat=True))
    assert zones == ["Asia/Shanghai", "Asia/Shanghai", "Europe/Berlin"]
    assert other.next_fire_at != named.next_fire_at
    shown = schedules.preview({"kind": "cron", "expression": "0 2 * * *"}, after=NOW, count=1)
    assert shown["fires"][0]["at"] == other.next_fire_at


def test_a_reason_of_a_pause_that_cannot_be_stored_is_refused_at_its_field(project, fields):
    task = tasks.create(SYSTEM, fields, now=NOW)
    assert errors(tasks.pause, SYSTEM, task, now=NOW, reason="a\x00b") == {"reason"}
    task.refresh_from_db()
    assert not task.paused


@pytest.mark.parametrize("verb", [tasks.update, tasks.delete, tasks.pause, tasks.resume, schedules.create])
def test_a_task_that_was_deleted_meanwhile_is_not_found(project, fields, verb):
    held = Task.objects.get(pk=tasks.create(SYSTEM, fields, now=NOW).pk)
    tasks.delete(SYSTEM, Task.objects.get(), now=NOW)
    change = {tasks.update: [{"name": "new"}], schedules.create: [{"expression": "* * * * *"}]}
    before = AuditEntry.objects.count()
    with pytest.raises(NotFound):
        verb(SYSTEM, held, *change.get(verb, []), now=NOW)
    assert AuditEntry.objects.count() == before


def test_a_delete_of_what_was_changed_meanwhile_is_refused(project, fields):
    task = tasks.create(SYSTEM, fields, now=NOW)
    seen = tasks.etag(task)
    tasks.update(SYSTEM, task, {"description": "theirs"}, now=NOW)
    with pytest.raises(StaleEdit):
        tasks.delete(SYSTEM, task, now=NOW, expected=seen)
    tasks.delete(SYSTEM, task, now=NOW, expected=tasks.etag(Task.objects.get()))
    assert not Task.objects.exists()


def test_a_task_that_names_no_pool_belongs_to_the_default_one(project, fields):
    del fields["pool"]
    assert tasks.create(SYSTEM, fields, now=NOW).pool == default_pool()
