"""Backfills in the console: the dry run comes first, the page shows how far it is, and its buttons stop it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from access_app.actors import system_actor
from tasks_app.models import Backfill, Run, Schedule
from tasks_app.services import backfills, schedules
from tasks_app.states import RunState
from tests.tasks_app.making import bring

NOW = timezone.now()


@pytest.fixture
def schedule(task) -> Schedule:
    return schedules.create(system_actor(), task, {"expression": "0 */12 * * *"}, now=NOW)


@pytest.fixture
def typed(schedule) -> dict[str, str]:
    return {
        "schedule": str(schedule.pk),
        "from": "2026-03-01 00:00",
        "to": "2026-03-03 00:00",
        "reprocess": "none",
        "order": "oldest",
        "max_concurrent": "2",
        "params": '{"region": "eu"}',
    }


@pytest.fixture
def backfill(task, schedule) -> Backfill:
    return backfills.plan(system_actor(), task, backfills.Wish(NOW - timedelta(days=2), NOW), now=NOW)


def test_the_form_lists_what_would_run_before_anything_is_planned(as_bob, task, typed):
    page = as_bob.get(f"/tasks/{task.pk}/backfill")
    assert "Plan" not in page.text
    page = as_bob.post(f"/tasks/{task.pk}/backfill", typed)
    assert "5 of 5 instants get a run" in page.text and "Plan 5 runs" in page.text
    assert "2026-03-01 12:00:00+00:00" in page.text
    assert Backfill.objects.count() == 0 == Run.objects.count()


def test_the_second_button_plans_it_and_shows_its_page(as_bob, task, typed, schedule):
    response = as_bob.post(f"/tasks/{task.pk}/backfill", {**typed, "step": "plan"})
    made = Backfill.objects.get()
    assert response["Location"] == f"/backfills/{made.pk}/"
    assert (made.total, made.max_concurrent, made.params, made.schedule) == (5, 2, {"region": "eu"}, schedule)
    page = as_bob.get(response["Location"]).text
    assert "0 of 5 runs are over" in page and '<progress class="wide" value="0" max="5"' in page
    assert f'href="/runs/?backfill={made.pk}&amp;state=waiting"' in page
    assert as_bob.get(f"/runs/?backfill={made.pk}").text.count('id="run-') == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("from", "yesterday"),
        ("from", "2026-03-04 00:00"),
        ("to", "2999-01-01 00:00"),
        ("schedule", "999999"),
        ("max_concurrent", "0"),
        ("params", "[1]"),
        ("params", "{"),
        ("params", '{"not a name": 1}'),
    ],
)
@pytest.mark.parametrize("step", ["list", "plan"])
def test_what_is_wrong_stands_at_its_field_and_nothing_is_planned(as_bob, task, typed, field, value, step):
    page = as_bob.post(f"/tasks/{task.pk}/backfill", {**typed, field: value, "step": step})
    assert page.status_code == 422 and Backfill.objects.count() == 0
    name = "to" if value == "2026-03-04 00:00" else field
    assert page.context["form"].errors.keys() == {name}


def test_progress_counts_what_is_over(as_bob, backfill):
    first, second, *_rest = backfills.runs_of(backfill).values_list("pk", flat=True)
    bring(first, RunState.SUCCEEDED)
    bring(second, RunState.FAILED)
    page = as_bob.get(f"/backfills/{backfill.pk}/").text
    assert f"2 of {backfill.total} runs are over" in page
    assert f"2 / {backfill.total}" in as_bob.get("/backfills/").text


def test_its_buttons_pause_resume_and_cancel_it(as_bob, backfill):
    address = f"/backfills/{backfill.pk}"
    for verb, state in (("pause", "paused"), ("resume", "active"), ("cancel", "cancelled")):
        assert f"{address}/{verb}" in as_bob.get(f"{address}/").text
        assert as_bob.post(f"{address}/{verb}").status_code == 302
        backfill.refresh_from_db()
        assert backfill.state == state
    page = as_bob.get(f"{address}/").text
    assert f"{address}/pause" not in page and "hx-trigger" not in page
    assert as_bob.post(f"{address}/pause", follow=True).context["state"] == "cancelled"


def test_running_runs_are_asked_to_end_only_where_that_is_ticked(as_bob, task, schedule):
    asked = []
    for place, form in enumerate(({}, {"running": "on"})):
        wish = backfills.Wish(NOW - timedelta(days=4 - place), NOW - timedelta(days=3 - place))
        made = backfills.plan(system_actor(), task, wish, now=NOW)
        run = backfills.runs_of(made).earliest("pk")
        bring(run.pk, RunState.RUNNING)
        as_bob.post(f"/backfills/{made.pk}/cancel", form)
        run.refresh_from_db()
        asked.append(run.cancel_requested_at is not None)
    assert asked == [False, True]


def test_strangers_find_nothing_and_viewers_press_nothing(as_charlie, as_bob, task, backfill, charlie, project):
    from access_app.roles import Role, grant

    addresses = [f"/backfills/{backfill.pk}/{verb}" for verb in ("pause", "resume", "cancel")]
    assert as_charlie.get(f"/backfills/{backfill.pk}/").status_code == 404
    assert as_charlie.get(f"/tasks/{task.pk}/backfill").status_code == 404
    assert [as_charlie.post(address).status_code for address in addresses] == [404] * 3
    assert "extract" not in as_charlie.get("/backfills/").text
    grant(charlie, Role.VIEWER, project)
    assert as_charlie.get(f"/backfills/{backfill.pk}/").status_code == 200
    assert as_charlie.get(f"/tasks/{task.pk}/backfill").status_code == 403
    for address in addresses:
        as_charlie.post(address)
    assert as_bob.get(addresses[0]).status_code == 405
    backfill.refresh_from_db()
    assert backfill.state == "active" and Run.objects.filter(state="waiting").count() == backfill.total


def test_a_task_without_a_schedule_has_nothing_to_backfill(as_bob, task):
    assert "No schedule" in as_bob.get(f"/tasks/{task.pk}/backfill").text
