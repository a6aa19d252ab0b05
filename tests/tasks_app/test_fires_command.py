"""manage.py fires: a day in numbers, and what did not run one by one."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tasks_app.models import Run
from tasks_app.services import schedules
from tests.dispatcher_app.steps import HOUR, MINUTE, fire
from tests.tasks_app.clock import at
from tests.tasks_app.command_line import ACTOR, make_task, refused, run_command

pytestmark = pytest.mark.django_db
MIDNIGHT = at("2026-03-02T00:00:00Z")


@pytest.fixture
def schedule():
    fields = {"expression": "0 * * * *", "catch_up": "none", "end_at": MIDNIGHT + 4 * HOUR + MINUTE}
    made = schedules.create(ACTOR, make_task("daily"), fields, now=MIDNIGHT - MINUTE)
    fire(MIDNIGHT + 2 * HOUR)
    fire(MIDNIGHT + 3 * HOUR)
    fire(MIDNIGHT + 4 * HOUR)
    Run.objects.get(nominal_at=MIDNIGHT + 3 * HOUR).delete()
    return made


def test_the_sum_comes_first_and_then_what_did_not_run(schedule):
    lines = run_command("fires", "daily", "--day", "2026-03-02").splitlines()
    assert lines == [
        "2026-03-02 UTC: 5 expected = 2 ran + 2 missed beyond the catch-up window + 1 unanswered",
        "2026-03-02 00:00:00+0000  missed beyond the catch-up window",
        "2026-03-02 01:00:00+0000  missed beyond the catch-up window",
        "2026-03-02 03:00:00+0000  unanswered",
    ]
    run = Run.objects.earliest("nominal_at")
    assert f"2026-03-02 02:00:00+0000  ran run {run.pk}: waiting" in run_command(
        "fires", "daily", "--day", "2026-03-02", "--all"
    )
    assert len(run_command("fires", "daily", "--day", "2026-03-02", "--answer", "run").splitlines()) == 3


def test_json_has_the_sum_the_hours_and_every_instant(schedule):
    answer = json.loads(run_command("fires", "daily", "--day", "2026-03-02", "--json"))
    assert (answer["expected"], answer["to_come"], len(answer["hours"]), len(answer["fires"])) == (5, 0, 24, 5)
    assert {one["answer"]: one["count"] for one in answer["answers"]} == {"run": 2, "missed": 2, "unanswered": 1}
    assert answer["hours"][2]["answers"] == [{"answer": "run", "reason": "", "count": 1}]
    assert answer["fires"][0]["nominal_at"] == "2026-03-02T00:00:00Z"
    assert (answer["start"], answer["end"]) == ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")


def test_the_day_is_that_of_the_schedule_and_today_unless_given(schedule):
    schedules.update(ACTOR, schedule, {"time_zone": "Asia/Tokyo", "end_at": None}, now=MIDNIGHT + timedelta(days=1))
    assert " Asia/Tokyo: " in run_command("fires", "daily")


def test_what_there_is_not_is_refused(schedule):
    other = schedules.create(ACTOR, make_task("other"), {"expression": "0 * * * *"}, now=MIDNIGHT)
    for arguments in (["--day", "yesterday"], ["--day", "0001-01-01"], ["--schedule", str(other.pk)]):
        assert refused("fires", "daily", *arguments).returncode == 2
    assert run_command("fires", "daily", "--schedule", str(schedule.pk))
