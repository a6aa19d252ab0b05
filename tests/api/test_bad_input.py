"""Whatever is wrong with a request: 400 or 413 at the field, nothing stored, never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest

from access_app.models import AuditEntry
from tasks_app.models import Run, Schedule, Task
from tests.api.client import NOOP, is_problem

GOOD = {"name": "t", "project": "analytics", "executor": "callable", "command": NOOP}
TEXTS = ("name", "project", "description", "task_type", "executor", "command", "schedule", "pool", "overlap")
NUMBERS = ("retry_count", "retry_delay_seconds", "timeout_seconds", "max_concurrent")
NOT_TEXT: list[Any] = [7, 1.5, True, [], {}, ["a"]]
NOT_A_NUMBER: list[Any] = ["7", 1.5, True, [], {}, -1, 10**30, -(10**30)]
WRONG: dict[str, list[Any]] = {
    **dict.fromkeys(TEXTS, NOT_TEXT),
    **dict.fromkeys(NUMBERS, NOT_A_NUMBER),
    "params": ["x", 1, [], None, True],
    "retry_on_lost": ["true", 1, [], None],
    "priority": ["urgent", 101, -1, True, [], {}, 10**30, 1.5, None],
    "trigger_rule": ["sometimes", 1, [], None],
}
NOT_NULL = ("name", "executor", "command", "project", "pool", "overlap", "timeout_seconds")
WRONG_TYPES = [(field, value) for field, values in WRONG.items() for value in values]
WRONG_TYPES += [(field, None) for field in NOT_NULL]
MEGABYTE = 1024 * 1024


@pytest.fixture
def editor(api, alice):
    return api(alice, "editor")


def nothing_is_stored():
    return not (Task.objects.exists() or Schedule.objects.exists() or Run.objects.exists())


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_refused_at_its_field(editor, field, value):
    is_problem(editor.post("/api/tasks", {**GOOD, field: value}), 400, field)
    assert nothing_is_stored()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 201),
        ("name", "two\nlines"),
        ("description", "x" * 20_001),
        ("task_type", "a\tb"),
        ("executor", "carrier_pigeon"),
        ("executor", ""),
        ("command", ""),
        ("command", "os.system"),
        ("command", "not a name"),
        ("project", "nowhere"),
        ("pool", "nowhere"),
        ("overlap", "whatever"),
        ("timeout_seconds", 0),
        ("timeout_seconds", 10**9),
        ("retry_count", 1001),
        ("retry_count", 2**31),
        ("max_concurrent", 0),
        ("schedule", "61 * * * *"),
        ("schedule", "* * * *"),
        ("schedule", "0 0 30 2 *"),
        ("schedule", "not cron"),
        ("schedule", "* " * 200),
        ("params", {"x": "y" * 70_000}),
        ("colour", "red"),
        ("self", 1),
        ("id", 5),
    ],
)
def test_a_value_without_meaning_is_refused_at_its_field(editor, field, value):
    is_problem(editor.post("/api/tasks", {**GOOD, field: value}), 400, field)
    assert nothing_is_stored()


@pytest.mark.parametrize("field", [*TEXTS, "params"])
@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_no_database_takes_is_refused_at_its_field(editor, field, text):
    value = {"x": {"y": [text]}} if field == "params" else text
    is_problem(editor.post("/api/tasks", {**GOOD, field: value}), 400, field)
    assert nothing_is_stored()


def test_a_nul_in_a_name_of_a_field_is_refused(editor):
    is_problem(editor.post("/api/tasks", {**GOOD, "params": {"a\x00": 1}}), 400, "params")
    is_problem(editor.post("/api/tasks", {**GOOD, "a\x00": 1}), 400)
    assert nothing_is_stored()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nope",
        b"{'name': 1}",
        b'{"name": "a",}',
        b'{"name": "a"} trailing',
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b"[]",
        b'"text"',
        b"7",
        b"null",
        b'{"params": NaN}',
        b'{"params": Infinity}',
        b'{"params": -Infinity}',
        b'{"timeout_seconds": 1e999}',
        b'{"timeout_seconds": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"params":' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}",
        b'{"name": "a\x00b"}',
        b'{"name": "a\nb"}',
    ],
)
def test_a_body_that_is_not_one_plain_json_object_is_refused(editor, raw):
    for path in ("/api/tasks", "/api/schedules/preview", "/api/dependencies", "/api/auth/keys"):
        content = is_problem(editor.send("POST", path, raw=raw), 400)
        assert content["errors"], content
    assert nothing_is_stored()


def test_a_field_that_is_given_twice_is_refused_at_that_field(editor):
    raw = b'{"name":"a","name":"b","executor":"callable","command":"x"}'
    is_problem(editor.send("POST", "/api/tasks", raw=raw), 400, "name")


def test_nesting_that_is_deep_but_not_too_deep_is_taken(editor):
    params: dict[str, Any] = {}
    for _level in range(40):
        params = {"a": params}
    assert editor.post("/api/tasks", {**GOOD, "params": params}).status_code == 201


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_above_ten_megabytes_is_too_large_whatever_it_claims_to_be(editor, kind):
    body = json.dumps({**GOOD, "description": "x" * (10 * MEGABYTE)}).encode()
    assert is_problem(editor.send("POST", "/api/tasks", raw=body, content_type=kind), 413)["code"] == "too_large"
    assert nothing_is_stored()


def test_a_body_of_just_under_ten_megabytes_is_read_and_refused_at_its_field(editor):
    body = json.dumps({**GOOD, "description": "x" * (10 * MEGABYTE - 500)}).encode()
    is_problem(editor.send("POST", "/api/tasks", raw=body), 400, "description")
    assert nothing_is_stored()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "nonsense"])
def test_another_media_type_is_not_supported(editor, kind):
    is_problem(editor.send("POST", "/api/tasks", GOOD, content_type=kind), 415)
    assert nothing_is_stored()


def test_a_body_in_chunks_is_refused_and_not_taken_for_an_empty_one(editor, make_task):
    path = f"/api/tasks/{make_task().pk}/trigger"
    response = editor.client.generic("POST", path, HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="")
    assert is_problem(response, 411)["code"] == "length_required"
    assert not Run.objects.exists()


def test_json_with_a_charset_is_supported(editor):
    kind = "application/json; charset=utf-8"
    assert editor.send("POST", "/api/tasks", GOOD, content_type=kind).status_code == 201


def test_another_method_is_not_allowed_and_the_answer_says_which_are(editor):
    response = editor.client.put("/api/runs")
    is_problem(response, 405)
    assert "GET" in response["Allow"]
    is_problem(editor.client.options("/api/tasks"), 405)


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api", "/api/tasks/x", "/api/tasks/1/2/3", "/api/tasks/-1"])
def test_an_unknown_path_is_a_problem_too(editor, path):
    is_problem(editor.get(path), 404)
    is_problem(editor.post(path, {}), 404)


@pytest.mark.parametrize("key", ["0", "999999999", "9" * 19, "9" * 40, "9" * 4000])
def test_a_key_that_no_row_has_is_not_found(editor, key):
    for path in ("tasks/{}", "runs/{}", "runs/{}/log", "runs/{}/events", "schedules/{}", "projects/{}", "pools/{}"):
        is_problem(editor.get(f"/api/{path.format(key)}"), 404)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("tasks?colour=red", "colour"),
        ("tasks?limit=0", "limit"),
        ("tasks?limit=501", "limit"),
        ("tasks?limit=-1", "limit"),
        ("tasks?limit=many", "limit"),
        ("tasks?limit=", "limit"),
        ("tasks?limit=1&limit=2", "limit"),
        ("tasks?limit=%D9%A1", "limit"),
        ("tasks?ordering=colour", "ordering"),
        ("tasks?ordering=--id", "ordering"),
        ("tasks?ordering=project__name", "ordering"),
        ("tasks?cursor=x", "cursor"),
        ("tasks?cursor=WyJpZCIsIDEsIDEsIGZhbHNlXQ%00", "cursor"),
        ("tasks?cursor=e30", "cursor"),
        ("tasks?name=%00", "name"),
        ("runs?state=nowhere", "state"),
        ("runs?state=succeeded&state=nowhere", "state"),
        ("runs?run_type=accident", "run_type"),
        ("runs?task=abc", "task"),
        ("runs?task=99999999999999999999999", "task"),
        ("runs?task=0", "task"),
        ("runs?created_after=yesterday", "created_after"),
        ("runs?task=1&task=2", "task"),
        ("runs?format=xml", "format"),
        ("workers?limit=0", "limit"),
        ("system/stats?x=1", "x"),
    ],
)
def test_a_wrong_query_parameter_is_refused_by_name(editor, path, field):
    is_problem(editor.get(f"/api/{path}"), 400, field)


def test_a_write_takes_no_query_parameters(editor):
    is_problem(editor.post("/api/tasks?dry_run=1", GOOD), 400, "dry_run")
    assert nothing_is_stored()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"params": []}, "params"),
        ({"params": {"x": "\x00"}}, "params"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": 101}, "priority"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 201}, "idempotency_key"),
        ({"idempotency_key": 5}, "idempotency_key"),
        ({"not_before": "2030-01-01"}, "not_before"),
        ({"not_before": "2030-01-01T00:00:00"}, "not_before"),
        ({"not_before": "2030-13-01T00:00:00Z"}, "not_before"),
        ({"not_before": "9999-12-31T23:59:59-12:00"}, "not_before"),
        ({"not_before": "0001-01-01T00:00:00+12:00"}, "not_before"),
        ({"not_before": "2090-01-01T00:00:00Z"}, "not_before"),
        ({"not_before": 5}, "not_before"),
        ({"when": "now"}, "when"),
    ],
)
def test_a_wrong_trigger_is_refused_at_its_field_and_makes_no_run(editor, make_task, body, field):
    task = make_task()
    before = AuditEntry.objects.count()
    is_problem(editor.post(f"/api/tasks/{task.pk}/trigger", body), 400, field)
    assert not Run.objects.exists() and AuditEntry.objects.count() == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": None}, "items"),
        ({"items": "x"}, "items"),
        ({"items": [{}], "x": 1}, "x"),
        ({"items": [{}, 5]}, "items[1]"),
        ({"items": [{}, {"params": 5}]}, "items[1].params"),
        ({"items": [{}, {"idempotency_key": 5}]}, "items[1].idempotency_key"),
        ({"items": [{}, {"x": 5}]}, "items[1].x"),
    ],
)
def test_a_wrong_item_spoils_the_whole_batch(editor, make_task, body, field):
    task = make_task()
    is_problem(editor.post(f"/api/tasks/{task.pk}/trigger-batch", body), 400, field)
    assert not Run.objects.exists()


def test_a_batch_of_more_than_ten_thousand_is_refused(editor, make_task):
    body: Any = {"items": [{}] * 10_001}
    assert is_problem(editor.post(f"/api/tasks/{make_task().pk}/trigger-batch", body), 400)["code"] == "batch_too_large"
    assert not Run.objects.exists()
