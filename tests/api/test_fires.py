"""The fire ledger over the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from access_app.actors import system_actor
from dispatcher_app.firing import fire_due
from tasks_app.models import Run
from tasks_app.services import schedules
from tests.api.client import is_problem

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
SINCE = NOW - timedelta(minutes=30)


@pytest.fixture
def schedule(make_task):
    """Every minute for half an hour, one late run and the rest in the ledger."""
    made = schedules.create(system_actor(), make_task(), {"expression": "* * * * *", "end_at": NOW}, now=SINCE)
    fire_due(NOW, actor="test")
    return made


def stamp(moment):
    return moment.isoformat().replace("+00:00", "Z")


def test_each_instant_has_the_shape_of_the_contract(api, alice, schedule):
    found = api(alice).get(
        f"/api/fires?task={schedule.task_id}&from={stamp(SINCE)}&to={stamp(NOW + timedelta(minutes=1))}"
    )
    content = found.json()
    assert (content["next"], content["previous"], len(content["results"])) == (None, None, 30)
    common = {"task": schedule.task_id, "schedule": schedule.pk, "backfill_run": None, "count": 1, "last_at": None}
    assert content["results"][0] == {
        **common,
        "nominal_at": stamp(SINCE + timedelta(minutes=1)),
        "answer": "coalesced",
        "reason": "catch_up_last",
        "run": None,
        "state": "",
    }
    run = Run.objects.get()
    last = {"nominal_at": stamp(NOW), "answer": "run", "reason": "", "run": run.pk, "state": "waiting"}
    assert content["results"][-1] == {**common, **last}


def test_pages_go_on_with_the_times_that_the_first_one_had(api, alice, schedule):
    client = api(alice)
    url, found = f"/api/fires?schedule={schedule.pk}&limit=7", []
    while url:
        page = client.get(url).json()
        found += page["results"]
        url = page["next"]
        assert url is None or {"from", "to", "limit"} <= {
            pair.partition("=")[0] for pair in url.split("?")[1].split("&")
        }
    assert len(found) == 30 == len({fire["nominal_at"] for fire in found})


def test_one_answer_alone(api, alice, schedule):
    results = api(alice).get(f"/api/fires?task={schedule.task_id}&answer=run").json()["results"]
    assert [fire["answer"] for fire in results] == ["run"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "task"),
        ("task={task}&answer=perhaps", "answer"),
        ("task={task}&from=yesterday", "from"),
        ("task={task}&from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", "to"),
        ("task={task}&to=2026-01-01T00:00:00Z&from=2026-03-01T00:00:00Z", "to"),
        ("task={task}&limit=0", "limit"),
        ("task={task}&cursor=WzEsMl0", "cursor"),
        ("task={task}&cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwxXQ", "cursor"),
        ("task={other}&schedule={schedule}", "schedule"),
        ("task=0", "task"),
        ("task={task}&order=at", "order"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_at_its_field(api, alice, make_task, schedule, query, field):
    names = {"task": schedule.task_id, "schedule": schedule.pk, "other": make_task("other").pk}
    is_problem(api(alice).get(f"/api/fires?{query.format(**names)}"), 400, field)


def test_foreign_tasks_and_schedules_are_not_there(api, charlie, schedule):
    client = api(charlie)
    for query in (f"task={schedule.task_id}", f"schedule={schedule.pk}", "task=999999"):
        assert client.get(f"/api/fires?{query}").status_code in (403, 404)
