"""What the API reads as JSON, through real requests: every text is stored as it was meant, or refused with 400."""

from __future__ import annotations

import json

import pytest

from tasks_app.models import Task
from tests.api.client import NOOP, is_problem
from tests.api.json_texts import ENCODED, MEANT, OPEN, REFUSED

HEAD = b'{"name": "t", "executor": "callable", "command": "%s"' % NOOP.encode()
BODY = HEAD + b"}"


@pytest.fixture
def client(api, root_user):
    return api(root_user)


def around(text: bytes) -> bytes:
    return HEAD + b', "params": {"x": ' + text + b"}}"


@pytest.mark.parametrize("name", MEANT)
def test_what_is_json_is_stored_as_it_was_meant(client, name):
    made = client.send("POST", "/api/tasks", raw=around(MEANT[name]))
    assert made.status_code == 201, made.content
    params = client.get(f"/api/tasks/{made.json()['id']}").json()["params"]
    assert params == {"x": json.loads(MEANT[name])}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_json_or_nobody_can_mean_is_refused(client, name):
    for raw in (around(REFUSED[name]), REFUSED[name]):
        content = is_problem(client.send("POST", "/api/tasks", raw=raw), 400)
        assert content["errors"], content
    assert not Task.objects.exists()


@pytest.mark.parametrize("name", OPEN)
def test_what_the_standard_leaves_open_gets_an_answer(client, name):
    answer = client.send("POST", "/api/tasks", raw=around(OPEN[name]))
    if answer.status_code != 201:
        is_problem(answer, 400)
        return
    assert client.get(f"/api/tasks/{answer.json()['id']}").status_code == 200


@pytest.mark.parametrize("name", ENCODED)
def test_a_body_with_something_around_its_object_is_refused(client, name):
    raw = ENCODED[name].replace(b"%s", BODY)
    assert is_problem(client.send("POST", "/api/tasks", raw=raw), 400)["errors"]
    assert not Task.objects.exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp500"])
def test_a_body_in_another_encoding_is_refused_whatever_it_is_called(client, encoding):
    raw = (BODY.decode()[:-1] + ', "description": "\u00e9+"}').encode(encoding)
    for kind in ("application/json", f"application/json; charset={encoding}"):
        is_problem(client.send("POST", "/api/tasks", raw=raw, content_type=kind), 400)
    assert not Task.objects.exists()


def test_a_text_that_is_no_object_is_no_body(client):
    for name, raw in {**MEANT, **OPEN}.items():
        assert is_problem(client.send("POST", "/api/tasks", raw=raw), 400)["errors"], name
