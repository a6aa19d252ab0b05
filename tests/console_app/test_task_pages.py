"""The task's page, its buttons, and the forms: errors in place, nothing lost, nothing changed by a refusal."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from access_app.actors import system_actor
from tasks_app.models import Calendar, Pool, Run, Schedule, Task
from tasks_app.services import schedules, tasks
from tests.console_app.factories import make_run, make_task

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def form(project) -> dict[str, str]:
    return {
        "name": "nightly",
        "project": str(project.pk),
        "description": "",
        "task_type": "",
        "executor": "shell",
        "command": "echo hi",
        "params": '{"region": "eu"}',
        "schedule": "0 2 * * *",
        "pool": str(Pool.objects.get(name="default").pk),
        "priority": "high",
        "overlap": "allow",
        "max_concurrent": "",
        "trigger_rule": "all_success",
        "timeout_seconds": "60",
        "retry_count": "2",
        "retry_delay_seconds": "5",
    }


def test_a_task_is_created_with_its_version_and_schedule(as_alice, form):
    response = as_alice.post("/tasks/new", form)
    task = Task.objects.get(name="nightly")
    assert response["Location"] == f"/tasks/{task.pk}/"
    assert task.version is not None
    assert (task.priority, task.version.params, task.version.timeout_seconds) == (75, {"region": "eu"}, 60)
    assert Schedule.objects.get(task=task).expression == "0 2 * * *"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "", "This field is required."),
        ("schedule", "61 * * * *", "61"),
        ("schedule", "0 0 30 2 *", "never"),
        ("params", "{region: eu}", "not valid JSON"),
        ("params", "[1]", "object of names and values"),
        ("params", '{"not a name": 1}', "not a name"),
        ("params", '{"a": 1, "a": 2}', "a: This field is given twice."),
        ("params", r'{"\ud800": 1, "\ud800": 2}', "given twice"),
        ("params", '{"a": NaN}', "NaN is not a JSON value."),
        ("params", '{"a": 1e999}', "too large"),
        ("priority", "urgent", "low, normal, high, critical"),
        ("priority", "101", "0 to 100"),
        ("timeout_seconds", "0", "greater than or equal to 1"),
        ("retry_count", "9999", "between 0 and 1000"),
        ("executor", "fax", "Select a valid choice"),
        ("command", "   ", "command line"),
        ("max_concurrent", "0", "greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(as_alice, form, field, value, said):
    response = as_alice.post("/tasks/new", {**form, field: value})
    assert response.status_code == 422
    errors = response.context["form"].errors
    assert list(errors) == [field]
    assert said in str(errors[field])
    assert f'id="id_{field}_error"' in response.text
    assert "nightly" in response.text or field == "name"
    assert not Task.objects.exists()


@pytest.mark.parametrize("levels", [51, 700, 100_000])
def test_parameters_nested_too_deep_are_refused_in_the_form_and_for_one_run(as_alice, form, task, levels):
    nested = '{"a": ' * levels + "1" + "}" * levels
    response = as_alice.post("/tasks/new", {**form, "params": nested})
    assert response.status_code == 422
    assert "more than 50 levels deep" in str(response.context["form"].errors["params"])
    assert "more than 50 levels deep" in as_alice.post(f"/tasks/{task.pk}/run", {"params": nested}, follow=True).text
    assert list(Task.objects.all()) == [task]
    assert not Run.objects.exists()


def test_parameters_nested_as_deep_as_may_be_are_taken(as_alice, form):
    as_alice.post("/tasks/new", {**form, "params": '{"a": ' * 50 + "1" + "}" * 50})
    assert Task.objects.filter(name="nightly").exists()


def test_a_taken_name_is_said_at_the_name(as_alice, form, task):
    response = as_alice.post("/tasks/new", {**form, "name": "extract"})
    assert list(response.context["form"].errors) == ["name"]
    assert Task.objects.count() == 1


def test_an_edit_saves_a_new_version_and_leaves_the_old_run_its_own(as_alice, form, task):
    run = make_run(task)
    shown = as_alice.get(f"/tasks/{task.pk}/edit").context["form"]
    values = {**form, "name": "extract", "command": "echo changed", "etag": shown["etag"].value()}
    assert as_alice.post(f"/tasks/{task.pk}/edit", values)["Location"] == f"/tasks/{task.pk}/"
    task.refresh_from_db()
    run.refresh_from_db()
    assert (task.version.number, task.version.command, run.version.number) == (2, "echo changed", 1)


def test_a_stale_edit_is_refused_and_keeps_what_was_typed(as_alice, form, task):
    stale = as_alice.get(f"/tasks/{task.pk}/edit").context["form"]["etag"].value()
    tasks.update(system_actor(), task, {"description": "by somebody else"}, now=timezone.now())
    response = as_alice.post(f"/tasks/{task.pk}/edit", {**form, "command": "echo mine", "etag": stale})
    assert response.status_code == 422
    assert "changed since you read it" in response.text
    assert "echo mine" in response.text
    task.refresh_from_db()
    assert (task.description, task.version.command) == ("by somebody else", "echo hello")


def test_editing_a_task_with_several_schedules_touches_none_of_them(as_alice, form, task):
    for expression in ("0 1 * * *", "0 2 * * *"):
        schedules.create(system_actor(), task, {"kind": "cron", "expression": expression}, now=timezone.now())
    shown = as_alice.get(f"/tasks/{task.pk}/edit")
    values = {**form, "name": "extract", "schedule": "", "etag": shown.context["form"]["etag"].value()}
    assert as_alice.post(f"/tasks/{task.pk}/edit", values).status_code == 302
    assert sorted(task.schedules.values_list("expression", flat=True)) == ["0 1 * * *", "0 2 * * *"]


def test_run_now_makes_one_run_and_shows_it(as_bob, task):
    response = as_bob.post(f"/tasks/{task.pk}/run")
    run = Run.objects.get()
    assert response["Location"] == f"/runs/{run.pk}/"
    assert run.run_type == "manual"


def test_run_with_parameters_takes_them_and_refuses_what_is_no_json(as_bob, task):
    as_bob.post(f"/tasks/{task.pk}/run", {"params": '{"region": "us"}'})
    assert Run.objects.get().params == {"region": "us"}
    for wrong in ("{", '"text"', "[1]"):
        response = as_bob.post(f"/tasks/{task.pk}/run", {"params": wrong}, follow=True)
        assert 'class="message error"' in response.text
    assert Run.objects.count() == 1


def test_pause_keeps_its_reason_and_resume_lifts_it(as_bob, task):
    page = as_bob.post(f"/tasks/{task.pk}/pause", {"reason": "invoices are wrong"}, follow=True)
    task.refresh_from_db()
    assert (task.paused, task.paused_reason) == (True, "invoices are wrong")
    assert "invoices are wrong" in page.text
    assert "Resume" in page.text
    as_bob.post(f"/tasks/{task.pk}/resume")
    task.refresh_from_db()
    assert task.paused is False


@pytest.mark.parametrize(
    ("mode", "said"),
    [("drop", "its fires are skipped"), ("queue", "its fires become runs that wait"), ("drain", "being drained")],
)
def test_the_page_tells_what_happens_while_the_task_is_paused_and_until_when(as_bob, task, mode, said):
    year = timezone.now().year + 1
    body = {"mode": mode, "until": f"{year}-01-31 08:00"}
    page = as_bob.post(f"/tasks/{task.pk}/pause", body, follow=True).text
    task.refresh_from_db()
    assert (task.pause_mode, task.paused_until) == (mode, datetime(year, 1, 31, 8, tzinfo=UTC))
    assert said in page and f"{year}-01-31T08:00:00" in page
    run_now = page.partition(f"/tasks/{task.pk}/run")[2].partition("Run now")[0]
    assert ("disabled" in run_now) == (mode == "drain")


@pytest.mark.parametrize("body", [{"until": "tomorrow"}, {"until": "2001-01-01 00:00"}, {"mode": "stop"}])
def test_a_pause_that_is_none_is_refused_with_the_reason(as_bob, task, body):
    page = as_bob.post(f"/tasks/{task.pk}/pause", body, follow=True)
    assert "message error" in page.text
    task.refresh_from_db()
    assert not task.paused


def test_deleting_names_the_task_and_takes_only_that_one(as_alice, task):
    other = make_task(task.project, "report")
    make_run(task)
    assert "1 run. This cannot be undone." in as_alice.get(f"/tasks/{task.pk}/edit").text
    as_alice.post(f"/tasks/{task.pk}/delete")
    assert list(Task.objects.all()) == [other]


def test_hostile_names_are_text_on_every_page(as_alice, project):
    task = make_task(project, HOSTILE, description=HOSTILE, command=HOSTILE, params={"a": HOSTILE}, task_type=HOSTILE)
    schedules.create(
        system_actor(), task, {"kind": "cron", "expression": "0 2 * * *", "note": HOSTILE}, now=timezone.now()
    )
    tasks.pause(system_actor(), task, now=timezone.now(), reason=HOSTILE)
    run = make_run(task)
    addresses = ["/", "/runs/", f"/runs/?task={task.pk}", "/tasks/", f"/tasks/?name={HOSTILE}", f"/runs/{run.pk}/"]
    addresses += [f"/tasks/{task.pk}/", f"/tasks/{task.pk}/edit", f"/tasks/{task.pk}/schedules/new"]
    for address in addresses:
        page = as_alice.get(address)
        assert page.status_code == 200
        assert "<script>alert" not in page.text, address
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in as_alice.get(f"/tasks/{task.pk}/").text


def test_the_page_names_the_next_fires_unless_the_task_is_paused(as_alice, task):
    schedules.create(system_actor(), task, {"kind": "cron", "expression": "0 2 * * *"}, now=timezone.now())
    assert len(as_alice.get(f"/tasks/{task.pk}/").context["fires"]) == 8
    tasks.pause(system_actor(), task, now=timezone.now())
    assert as_alice.get(f"/tasks/{task.pk}/").context["fires"] == []


def test_a_schedule_that_is_broken_in_the_database_does_not_break_the_page(as_alice, task):
    schedule = schedules.create(system_actor(), task, {"kind": "cron", "expression": "0 2 * * *"}, now=timezone.now())
    Schedule.objects.filter(pk=schedule.pk).update(expression="99 * * * *")
    assert as_alice.get(f"/tasks/{task.pk}/").status_code == 200


# Schedules


def _schedule_form(**values: str) -> dict[str, str]:
    return {
        "kind": "cron",
        "expression": "0 2 * * *",
        "time_zone": "Europe/Berlin",
        "catch_up": "last",
        "catch_up_window_seconds": "3600",
        "max_catch_up": "100",
        "dst_gap": "run_after",
        "dst_repeat": "first",
        "enabled": "on",
        **values,
    }


def test_a_schedule_is_added_changed_and_deleted(as_alice, task):
    as_alice.post(f"/tasks/{task.pk}/schedules/new", _schedule_form())
    schedule = Schedule.objects.get()
    assert (schedule.expression, schedule.time_zone) == ("0 2 * * *", "Europe/Berlin")
    tag = as_alice.get(f"/schedules/{schedule.pk}/edit").context["form"]["etag"].value()
    as_alice.post(f"/schedules/{schedule.pk}/edit", _schedule_form(kind="interval", interval_seconds="90", etag=tag))
    schedule.refresh_from_db()
    assert (schedule.kind, schedule.interval_seconds, schedule.expression) == ("interval", 90, "")
    as_alice.post(f"/schedules/{schedule.pk}/delete")
    assert not Schedule.objects.exists()


def test_a_stale_edit_of_a_schedule_is_refused_and_keeps_what_was_typed(as_alice, task):
    as_alice.post(f"/tasks/{task.pk}/schedules/new", _schedule_form())
    schedule = Schedule.objects.get()
    stale = as_alice.get(f"/schedules/{schedule.pk}/edit").context["form"]["etag"].value()
    schedules.update(system_actor(), schedule, {"note": "by somebody else"}, now=timezone.now())
    response = as_alice.post(f"/schedules/{schedule.pk}/edit", _schedule_form(expression="7 7 * * *", etag=stale))
    assert response.status_code == 422
    assert "changed since you read it" in response.text and "7 7 * * *" in response.text
    schedule.refresh_from_db()
    assert (schedule.note, schedule.expression) == ("by somebody else", "0 2 * * *")


def test_where_the_calendar_leaves_no_fire_in_sight_the_pages_say_how_far_it_was_looked_ahead(as_alice, task):
    never = Calendar.objects.create(name="never", document={"blackout": [{"kind": "weekly"}]})
    as_alice.post(f"/tasks/{task.pk}/schedules/new", _schedule_form(calendar=str(never.pk)))
    schedule = Schedule.objects.get()
    assert (
        f'not before</span> <time datetime="{schedule.looked_until:%Y-%m-%d}' in as_alice.get(f"/tasks/{task.pk}/").text
    )
    shown = as_alice.get("/tasks/preview", _schedule_form(calendar=str(never.pk))).text
    assert "lets nothing of it run before" in shown and "This never fires" not in shown


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"expression": "61 * * * *"}, "expression"),
        ({"expression": ""}, "expression"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"kind": "interval"}, "interval_seconds"),
        ({"kind": "once", "at": "yesterday"}, "at"),
        ({"start_at": "2030-01-02 00:00", "end_at": "2030-01-01 00:00"}, "end_at"),
    ],
)
def test_a_wrong_schedule_is_refused_at_its_field(as_alice, task, values, field):
    response = as_alice.post(f"/tasks/{task.pk}/schedules/new", _schedule_form(**values))
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert not Schedule.objects.exists()


def test_the_preview_shows_the_next_fires_in_the_zone_of_the_schedule(as_alice):
    page = as_alice.get("/tasks/preview", _schedule_form(start_at="2030-03-30 00:00"))
    assert [fire["at"].isoformat() for fire in page.context["fires"]][:3] == [
        "2030-03-30T01:00:00+00:00",
        "2030-03-31T01:00:00+00:00",
        "2030-04-01T00:00:00+00:00",
    ]
    assert page.context["fires"][1]["badges"] == ["dst_gap"]
    assert "clocks go forward" in page.text


@pytest.mark.parametrize("typed", ["", "0 2", "61 * * * *", "@never", "\x00", "* " * 5000, HOSTILE])
def test_the_preview_of_half_a_rule_is_a_sentence_and_never_an_error(as_alice, typed):
    page = as_alice.get("/tasks/preview", {"schedule": typed})
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert "fires" not in page.context
