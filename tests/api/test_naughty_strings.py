"""Every text that breaks programs, in every field that keeps text: 400 at the field, or shown back as it was sent."""

from __future__ import annotations

import os
import re
from typing import Any
from unicodedata import normalize
from urllib.parse import quote

import pytest

from tests.api.client import NOOP, is_problem
from tests.api.naughty import LONG, TEXTS, storable

COMMAND = {"executor": "callable", "command": NOOP}
# Each place with fields of text: what is sent there beside them, and those that keep white space at their ends.
PLACES: dict[str, tuple[str, dict[str, Any], tuple[str, ...], set[str]]] = {
    "task": (
        "tasks",
        {**COMMAND, "executor": "shell"},
        ("name", "description", "task_type", "command", "concurrency_key", "routing_key", "required_labels", "params"),
        {"description", "command", "params"},
    ),
    "project": ("projects", {}, ("name", "description"), set()),
    "pool": ("pools", {}, ("name", "description"), set()),
    "calendar": ("calendars", {}, ("name", "description"), set()),
    "resource": ("resources", {}, ("name", "description"), set()),
    "secret": ("secrets", {"value": "a value"}, ("name", "description"), set()),
    "user": ("users", {}, ("username", "first_name", "last_name"), set()),
    "group": ("groups", {}, ("name",), set()),
    "key": ("auth/keys", {}, ("name",), set()),
    "worker key": ("auth/worker-keys", {"pools": ["default"]}, ("name",), set()),
    "schedule": ("tasks/{task}/schedules", {"expression": "0 2 * * *"}, ("note",), set()),
    "pause": ("tasks/{task}/pause", {}, ("reason",), set()),
    "run": ("tasks/{task}/trigger", {}, ("idempotency_key", "params"), {"idempotency_key", "params"}),
}
# Every text goes to some places; with TEST_LONG=1 to all of them.
STEP = 1 if os.environ.get("TEST_LONG") == "1" else 7
# Where an answer shows a field under another name.
SHOWN = {("pause", "reason"): "paused_reason"}


def sent(field: str, text: str) -> Any:
    return {text: [text, {"x": text}]} if field == "params" else text


@pytest.mark.parametrize("place", PLACES)
def test_each_text_is_refused_at_its_field_or_shown_back_as_it_was_sent(api, root_user, make_task, place):
    path, beside, fields, keeps = PLACES[place]
    client, task = api(root_user), make_task()
    path = f"/api/{path}".replace("{task}", str(task.pk))
    stored = 0
    for index, text in list(enumerate(TEXTS))[list(PLACES).index(place) % STEP :: STEP]:
        body = {**beside, **{field: sent(field, text) for field in fields}}
        refused: set[str] = set()
        response = client.post(path, body)
        while response.status_code not in (200, 201):
            wrong = set(is_problem(response, 400)["errors"])
            named = {field for field in fields if any(re.split(r"[.\[]", name)[0] == field for name in wrong)}
            assert named and not named & refused, (text, response.content)
            refused |= named
            plain = f"PLAIN{index}" if place == "secret" else f"plain{index}"
            body |= {field: {} if field == "params" else plain for field in named}
            response = client.post(path, body)
        if not storable(text):
            assert refused == set(fields), text
        shown = response.json()
        if "id" in shown and place in ("task", "project", "pool", "calendar", "resource", "user", "group"):
            shown = client.get(f"{path}/{shown['id']}").json()
        for field in set(fields) - refused:
            stored += 1
            wanted = sent(field, text if field in keeps else text.strip())
            # One person, one name, however it is typed.
            wanted = normalize("NFKC", wanted) if field == "username" else wanted
            assert shown[SHOWN.get((place, field), field)] == wanted, (field, text)
    assert stored > 3


def test_each_text_may_be_searched_for_and_finds_what_has_it_alone(api, root_user, make_task):
    client = api(root_user)
    make_task("other")
    for text in TEXTS[::STEP]:
        name = text.strip()
        if not storable(text):
            continue
        response = client.get(f"/api/tasks?name={quote(text)}")
        assert response.status_code == 200, (text, response.content)
        made = client.post("/api/tasks", {**COMMAND, "name": f"<{name}>"})
        if made.status_code != 201:
            is_problem(made, 400, "name")
            continue
        found = client.get(f"/api/tasks?limit=500&name={quote(f'<{name}>')}").json()["results"]
        assert made.json()["id"] in [row["id"] for row in found], text
        assert all(f"<{name}>".casefold() in row["name"].casefold() for row in found), (text, found)


def test_a_long_text_is_refused_where_the_place_is_short(api, root_user):
    for text in LONG:
        is_problem(api(root_user).post("/api/tasks", {**COMMAND, "name": text}), 400, "name")
