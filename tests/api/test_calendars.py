"""Calendars over the API, and schedules that name them."""

from __future__ import annotations

import pytest

from access_app.roles import grant
from tasks_app.models import Calendar, Project
from tests.api.client import is_problem

OFFICE = {"allowed": [{"kind": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}]}


@pytest.fixture
def client(api, alice):
    return api(alice)


@pytest.fixture
def administrator(api, root_user):
    return api(root_user)


def create(client, name="office", **fields):
    answer = client.post("/api/calendars", {"name": name, "project": "analytics", "document": OFFICE, **fields})
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_a_calendar_is_created_read_changed_listed_and_deleted(client, project):
    made = create(client, holidays=[{"country": "DE", "subdivision": "BY"}])
    assert (made["name"], made["project"], made["document"], made["includes"]) == ("office", "analytics", OFFICE, [])
    assert made["holidays"] == [{"country": "DE", "subdivision": "BY"}]
    path = f"/api/calendars/{made['id']}"
    assert client.get(path).json() == made
    changed = client.patch(path, {"description": "hours of the office"}).json()
    assert (changed["description"], changed["document"]) == ("hours of the office", OFFICE)
    assert [row["id"] for row in client.get("/api/calendars").json()["results"]] == [made["id"]]
    assert client.delete(path).status_code == 204
    is_problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"document": {"allowed": [{"kind": "x"}]}}, "document"),
        ({"document": None}, "document"),
        ({"holidays": [{"country": "XX"}]}, "holidays"),
        ({"holidays": [{"country": "DE", "state": "BY"}]}, "holidays[0].state"),
        ({"includes": [10**9]}, "includes"),
        ({"includes": [True]}, "includes"),
        ({"project": "nowhere"}, "project"),
        ({"holiday_rules": {}}, "holiday_rules"),
    ],
)
def test_what_is_wrong_is_refused_at_its_field(client, project, body, field):
    answer = client.post("/api/calendars", {"name": "c", "project": "analytics", **body})
    assert answer.status_code == 400
    assert any(name.startswith(field.split("[")[0]) for name in answer.json()["errors"]), answer.json()
    assert not Calendar.objects.exists()


def test_shared_calendars_are_seen_by_members_and_kept_by_administrators(client, administrator, api, charlie, project):
    is_problem(client.post("/api/calendars", {"name": "holidays"}), 403)
    shared = administrator.post("/api/calendars", {"name": "holidays", "project": None}).json()
    path = f"/api/calendars/{shared['id']}"
    assert client.get(path).json()["project"] is None
    is_problem(client.patch(path, {"description": "mine"}), 403)
    is_problem(client.delete(path), 403)
    is_problem(api(charlie).get(path), 404)
    assert client.patch(f"/api/calendars/{create(client)['id']}", {"includes": [shared["id"]]}).status_code == 200


def test_foreign_calendars_are_not_there(client, administrator, api, charlie, project):
    other = Project.objects.create(name="other")
    grant(charlie, "editor", other)
    mine = create(client)
    stranger = api(charlie)
    for answer in (
        stranger.get(f"/api/calendars/{mine['id']}"),
        stranger.get(f"/api/calendars/{mine['id']}/check"),
        stranger.delete(f"/api/calendars/{mine['id']}"),
    ):
        is_problem(answer, 404)
    assert stranger.get("/api/calendars").json()["results"] == []
    body = {"name": "c", "project": "other", "includes": [mine["id"]]}
    is_problem(stranger.post("/api/calendars", body), 400, "includes")
    for named in (mine["id"], "office"):
        body = {"expression": "* * * * *", "calendar": named}
        is_problem(stranger.post("/api/schedules/preview", body), 400, "calendar")


def test_a_check_says_why_not_and_when_again(client, project):
    path = f"/api/calendars/{create(client)['id']}/check"
    assert client.get(f"{path}?at=2026-03-07T10:00:00Z").json() == {
        "at": "2026-03-07T10:00:00Z",
        "allowed": False,
        "reason": '2026-03-07 10:00:00 (UTC) is outside the allowed times: "weekly".',
        "next_allowed": "2026-03-09T09:00:00Z",
    }
    assert client.get(f"{path}?at=2026-03-06T10:00:00%2B01:00").json()["allowed"] is True
    is_problem(client.get(f"{path}?at=soon"), 400, "at")
    is_problem(client.get(f"{path}?when=now"), 400, "when")


def test_a_calendar_in_use_answers_409_with_its_users(client, make_task):
    task = make_task("nightly")
    made = create(client)
    client.post(f"/api/tasks/{task.pk}/schedules", {"expression": "0 2 * * *", "calendar": made["id"]})
    answer = client.delete(f"/api/calendars/{made['id']}")
    is_problem(answer, 409)
    assert "nightly" in answer.json()["detail"]


# Schedules


def test_a_schedule_names_its_calendar_by_id_or_name_and_shows_what_becomes_of_it(client, make_task):
    task = make_task()
    made = create(client)
    path = f"/api/tasks/{task.pk}/schedules"
    extras = {"jitter_seconds": 60, "start_deadline_seconds": 600, "calendar_action": "next_allowed"}
    by_id, by_name = (
        client.post(path, {"expression": "0 2 * * *", "calendar": named, **extras}) for named in (made["id"], "office")
    )
    for answer in (by_id, by_name):
        assert answer.status_code == 201, answer.content
        assert {name: answer.json()[name] for name in extras} == extras and answer.json()["calendar"] == made["id"]
        assert answer.json()["next_fire_at"].endswith("T09:00:00Z")
    schedule = by_name.json()
    assert client.get(f"/api/tasks/{task.pk}").json()["next_fire_at"] == schedule["next_fire_at"]
    fires = client.get(f"/api/tasks/{task.pk}/upcoming?count=1").json()["results"]
    assert (fires[0]["at"], fires[0]["nominal_at"][11:]) == (schedule["next_fire_at"], "02:00:00Z")
    off = client.patch(f"/api/schedules/{schedule['id']}", {"calendar": None}).json()
    assert off["calendar"] is None and off["next_fire_at"].endswith("T02:00:00Z")


@pytest.mark.parametrize("named", [10**9, 2**70, "", "nowhere", True, 1.5, ["office"]])
def test_a_calendar_that_is_not_there_is_refused_at_its_field(client, make_task, named):
    body = {"expression": "* * * * *", "calendar": named}
    is_problem(client.post("/api/schedules/preview", body), 400, "calendar")
    is_problem(client.post(f"/api/tasks/{make_task().pk}/schedules", body), 400, "calendar")


def test_the_calendar_of_the_project_goes_before_the_shared_one_of_that_name(client, administrator, make_task):
    shared = administrator.post("/api/calendars", {"name": "office"}).json()
    path = f"/api/tasks/{make_task().pk}/schedules"
    body = {"expression": "0 2 * * *", "calendar": "office"}
    assert client.post(path, body).json()["calendar"] == shared["id"]
    own = create(client)
    assert client.post(path, body).json()["calendar"] == own["id"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"jitter_seconds": -1}, "jitter_seconds"),
        ({"jitter_seconds": 32 * 86_400}, "jitter_seconds"),
        ({"start_deadline_seconds": 0}, "start_deadline_seconds"),
        ({"start_deadline_seconds": 2**31 - 1}, "start_deadline_seconds"),
        ({"calendar_action": "run"}, "calendar_action"),
        ({"kind": "fixed_delay", "expression": ""}, "interval_seconds"),
    ],
)
def test_what_else_is_wrong_is_refused_at_its_field(client, make_task, fields, field):
    body = {"expression": "* * * * *", **fields}
    is_problem(client.post("/api/schedules/preview", body), 400, field)
    is_problem(client.post(f"/api/tasks/{make_task().pk}/schedules", body), 400, field)


def test_a_preview_shows_moved_and_spread_fires(client, project):
    create(client)
    body = {
        "expression": "30 18 * * *",
        "calendar": "office",
        "calendar_action": "next_allowed",
        "jitter_seconds": 90,
        "after": "2026-03-06T00:00:00Z",
        "count": 1,
    }
    assert client.post("/api/schedules/preview", body).json()["fires"] == [
        {
            "at": "2026-03-09T09:00:00Z",
            "local": "2026-03-09T09:00:00+00:00",
            "badges": ["calendar"],
            "nominal_at": "2026-03-08T18:30:00Z",
            "latest_at": "2026-03-09T09:01:30Z",
        }
    ]


def test_a_preview_of_a_fixed_delay_shows_its_first_fire_and_says_the_rest(client):
    body = {"kind": "fixed_delay", "interval_seconds": 90, "after": "2026-03-06T00:00:00Z"}
    answer = client.post("/api/schedules/preview", body).json()
    assert [fire["at"] for fire in answer["fires"]] == ["2026-03-06T00:00:00Z"]
    assert "90 s after each end" in answer["expanded"]
