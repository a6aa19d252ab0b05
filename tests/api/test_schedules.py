"""Schedules over the API, and the preview that fires without firing."""

from __future__ import annotations

import pytest

from dispatcher_app.firing import fire_due
from tasks_app.models import Schedule
from tests.api.client import is_problem


@pytest.fixture
def client(api, alice):
    return api(alice)


@pytest.fixture
def root(api, root_user):
    return api(root_user)


def test_the_preview_answers_as_the_contract_says(client):
    body = {
        "kind": "cron",
        "expression": "0 2 * * *",
        "time_zone": "Europe/Berlin",
        "after": "2026-03-28T00:00:00Z",
        "count": 5,
    }
    answer = client.post("/api/schedules/preview", body)
    assert answer.status_code == 200
    fires = answer.json()["fires"]
    assert len(fires) == 5 and "Europe/Berlin" in answer.json()["expanded"]
    assert fires[0] == {"at": "2026-03-28T01:00:00Z", "local": "2026-03-28T02:00:00+01:00", "badges": []}
    assert fires[1] == {"at": "2026-03-29T01:00:00Z", "local": "2026-03-29T03:00:00+02:00", "badges": ["dst_gap"]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expression": "61 * * * *"}, "expression"),
        ({"expression": "* * * *"}, "expression"),
        ({"expression": ""}, "expression"),
        ({}, "expression"),
        ({"expression": 5}, "expression"),
        ({"expression": "* * * * *", "time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"expression": "* * * * *", "time_zone": "../../etc/passwd"}, "time_zone"),
        ({"expression": "* * * * *", "time_zone": None}, "time_zone"),
        ({"expression": "* * * * *", "kind": "moon"}, "kind"),
        ({"expression": "* * * * *", "dst_gap": "x"}, "dst_gap"),
        ({"expression": "* * * * *", "dst_repeat": 1}, "dst_repeat"),
        ({"expression": "* * * * *", "catch_up": "some"}, "catch_up"),
        ({"expression": "* * * * *", "catch_up_window_seconds": -1}, "catch_up_window_seconds"),
        ({"expression": "* * * * *", "catch_up_window_seconds": 10**12}, "catch_up_window_seconds"),
        ({"expression": "* * * * *", "max_catch_up": 0}, "max_catch_up"),
        ({"expression": "* * * * *", "enabled": "yes"}, "enabled"),
        ({"expression": "* * * * *", "note": "x" * 501}, "note"),
        ({"expression": "* * * * *", "start_at": "2030-01-01"}, "start_at"),
        ({"expression": "* * * * *", "start_at": "0001-01-01T00:00:00Z"}, "start_at"),
        ({"expression": "* * * * *", "end_at": "9999-12-31T23:59:59Z"}, "end_at"),
        ({"expression": "* * * * *", "start_at": "2030-01-02T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"}, "end_at"),
        ({"kind": "interval"}, "interval_seconds"),
        ({"kind": "interval", "interval_seconds": 0}, "interval_seconds"),
        ({"kind": "interval", "interval_seconds": "60"}, "interval_seconds"),
        ({"kind": "interval", "interval_seconds": 2**31}, "interval_seconds"),
        ({"kind": "once"}, "at"),
        ({"kind": "once", "at": "soon"}, "at"),
        ({"expression": "* * * * *", "colour": "red"}, "colour"),
        ({"expression": "* * * * *", "next_fire_at": None}, "next_fire_at"),
    ],
)
def test_a_wrong_schedule_is_refused_at_its_field_in_preview_and_on_a_task(client, make_task, body, field):
    task = make_task()
    is_problem(client.post("/api/schedules/preview", body), 400, field)
    is_problem(client.post(f"/api/tasks/{task.pk}/schedules", body), 400, field)
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(("count", "field"), [(0, "count"), (201, "count"), ("5", "count"), (None, "count")])
def test_a_preview_of_too_many_fires_is_refused(client, count, field):
    is_problem(client.post("/api/schedules/preview", {"expression": "* * * * *", "count": count}), 400, field)


def test_the_longest_preview_of_the_rarest_expression_is_an_answer(client):
    body = {"expression": "0 0 29 2 1", "count": 200, "after": "2026-01-01T00:00:00Z"}
    assert client.post("/api/schedules/preview", body).status_code == 200


def test_the_preview_spreads_h_by_the_name_of_the_task_that_it_names(client, api, charlie, make_task):
    one, two = make_task("one"), make_task("another one")

    def first(task):
        body = {"expression": "H H * * *", "after": "2026-01-01T00:00:00Z", "count": 1, "task": task.pk}
        return client.post("/api/schedules/preview", body).json()["fires"][0]["at"]

    assert first(one) == first(one) != first(two)
    foreign = api(charlie).post("/api/schedules/preview", {"expression": "H * * * *", "task": one.pk})
    is_problem(foreign, 400, "task")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"expression": "0  2 * * *"}, {"kind": "cron", "time_zone": "UTC", "catch_up": "last", "enabled": True}),
        ({"kind": "interval", "interval_seconds": 90}, {"kind": "interval", "interval_seconds": 90}),
        ({"kind": "once", "at": "2099-01-01T01:00:00+01:00"}, {"at": "2099-01-01T00:00:00Z"}),
        ({"expression": "0 2 * * *", "enabled": False, "note": "later"}, {"enabled": False, "note": "later"}),
    ],
)
def test_a_schedule_is_added_read_and_deleted(client, make_task, body, shown):
    task = make_task()
    made = client.post(f"/api/tasks/{task.pk}/schedules", body)
    assert made.status_code == 201, made.content
    schedule = made.json()
    assert {name: schedule[name] for name in shown} == shown and schedule["task"] == task.pk
    assert schedule["next_fire_at"].endswith("Z")
    path = f"/api/schedules/{schedule['id']}"
    assert client.get(path).json() == schedule
    assert [row["id"] for row in client.get(f"/api/tasks/{task.pk}/schedules").json()["results"]] == [schedule["id"]]
    assert client.delete(path).status_code == 204
    is_problem(client.get(path), 404)


def test_a_schedule_is_changed_field_by_field_and_the_task_shows_its_next_fire(client, make_task):
    task = make_task()
    path = f"/api/tasks/{task.pk}"
    made = client.post(f"{path}/schedules", {"expression": "0 2 * * *", "note": "n"}).json()
    changed = client.patch(f"/api/schedules/{made['id']}", {"expression": "0 3 * * *", "time_zone": "Asia/Tokyo"})
    assert changed.status_code == 200
    assert (changed.json()["note"], changed.json()["time_zone"]) == ("n", "Asia/Tokyo")
    assert client.get(path).json()["next_fire_at"] == changed.json()["next_fire_at"]
    off = client.patch(f"/api/schedules/{made['id']}", {"enabled": False})
    assert off.json()["enabled"] is False and client.get(path).json()["next_fire_at"] is None
    is_problem(client.patch(f"/api/schedules/{made['id']}", {"expression": "nope"}), 400, "expression")
    is_problem(client.patch(f"/api/schedules/{made['id']}", {"error": ""}), 400, "error")


def test_a_preview_for_a_task_that_is_not_there_is_refused_at_the_task(client):
    body = {"expression": "H * * * *", "task": 10**9}
    is_problem(client.post("/api/schedules/preview", body), 400, "task")


def test_an_edit_of_a_schedule_that_somebody_else_changed_meanwhile_is_refused(client, make_task):
    task = make_task()
    made, other = (client.post(f"/api/tasks/{task.pk}/schedules", {"expression": "0 2 * * *"}) for _ in range(2))
    path = f"/api/schedules/{made.json()['id']}"
    seen, apart = made["ETag"], other["ETag"]
    assert client.get(path)["ETag"] == seen != apart
    first = client.patch(path, {"note": "mine"}, headers={"If-Match": seen})
    assert first.status_code == 200 and client.get(path)["ETag"] == first["ETag"] != seen
    for method, body in (("PATCH", {"note": "theirs"}), ("DELETE", None)):
        assert is_problem(client.send(method, path, body, headers={"If-Match": seen}), 412)["code"] == "stale_edit"
    assert client.get(path).json()["note"] == "mine"
    assert client.patch(path, {}, headers={"If-Match": "*"}).status_code == 200
    assert client.delete(f"/api/schedules/{other.json()['id']}", headers={"If-Match": apart}).status_code == 204
    fresh = client.get(path)["ETag"]
    assert client.delete(path, headers={"If-Match": f'"other", {fresh}'}).status_code == 204


def test_a_fire_leaves_the_entity_tag_of_its_schedule_and_a_new_name_of_the_task_that_moves_it_does_not(
    client, make_task
):
    task = make_task()
    path = f"/api/schedules/{client.post(f'/api/tasks/{task.pk}/schedules', {'expression': 'H * * * *'}).json()['id']}"
    seen = client.get(path)["ETag"]
    before = Schedule.objects.get().next_fire_at
    assert before is not None
    assert fire_due(before, actor="test").schedules == 1
    assert Schedule.objects.get().next_fire_at != before
    assert client.get(path)["ETag"] == seen
    client.patch(f"/api/tasks/{task.pk}", {"name": "another name"})
    assert client.get(path)["ETag"] != seen


def test_a_preview_says_how_far_it_was_looked_ahead_where_the_calendar_leaves_too_few(client, root):
    office = {"allowed": [{"kind": "weekly", "days": ["mon"], "from": "09:00", "to": "17:00"}]}
    root.post("/api/calendars", {"name": "office", "document": office})
    body = {"expression": "0 3 * * *", "calendar": "office", "after": "2026-03-02T12:00:00Z"}
    answer = client.post("/api/schedules/preview", body).json()
    # 400 weeks of closed nights, each week one time to look at.
    assert (answer["fires"], answer["looked_until"]) == ([], "2033-11-01T03:00:00Z")
    answer = client.post("/api/schedules/preview", {**body, "expression": "0 13 * * *"}).json()
    assert (len(answer["fires"]), answer["looked_until"]) == (5, None)
    answer = client.post("/api/schedules/preview", {**body, "end_at": "2026-04-01T00:00:00Z"}).json()
    assert (answer["fires"], answer["looked_until"]) == ([], None)


def test_a_schedule_that_its_calendar_keeps_closed_shows_how_far_it_was_looked_ahead(client, root, make_task):
    root.post("/api/calendars", {"name": "never", "document": {"blackout": [{"kind": "weekly"}]}})
    task = make_task()
    made = client.post(f"/api/tasks/{task.pk}/schedules", {"expression": "0 3 * * *", "calendar": "never"}).json()
    assert made["next_fire_at"] is None and made["looked_until"] > "2035"
    freed = client.patch(f"/api/schedules/{made['id']}", {"calendar": None}).json()
    assert freed["next_fire_at"] is not None and freed["looked_until"] is None
