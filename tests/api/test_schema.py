"""The OpenAPI document: complete, free of warnings, and readable without a network."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.core.management import call_command

from tests.api.client import is_problem
from tests.api.test_access import ADDRESSES

NOT_IN_IT = {"api/schema", "api/docs", "health", "health/live"}


@pytest.fixture
def client(api, charlie):
    return api(charlie)


@pytest.fixture
def document(client):
    response = client.get("/api/schema?format=json")
    assert response.status_code == 200
    return response.json()


def test_it_is_valid_and_free_of_warnings():
    call_command("spectacular", validate=True, fail_on_warn=True, file="/dev/null", stderr=StringIO())


def test_every_address_and_method_stands_in_it_once(document):
    written = {
        (method.upper(), path.lstrip("/"))
        for path, operations in document["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete")
    }
    served = {(method, re.sub(r"<\w+:(\w+)>", r"{\1}", route)) for method, route in ADDRESSES if route not in NOT_IN_IT}
    assert written == served


def test_every_operation_has_a_text_and_its_problems(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
            answers = operation["responses"]
            assert {"400", "401"} <= answers.keys(), (method, path)
            assert list(answers["401"]["content"]) == ["application/problem+json"]
            assert ("404" in answers) == ("{" in path), (method, path)


def test_where_a_key_may_be_refused_for_its_role_the_document_says_so(document):
    keys = document["paths"]
    assert "403" in keys["/api/auth/keys"]["post"]["responses"]
    assert "403" in keys["/api/auth/keys/{key_id}"]["delete"]["responses"]
    assert "403" not in keys["/api/system/info"]["get"]["responses"]


def test_lists_name_their_filters(document):
    names = {parameter["name"] for parameter in document["paths"]["/api/runs"]["get"]["parameters"]}
    assert names == {
        "limit",
        "cursor",
        "ordering",
        "task",
        "task_name",
        "project",
        "state",
        "run_type",
        "backfill",
        "shard_of",
        "created_after",
        "created_before",
    }


def test_its_answers_have_the_fields_that_it_names(api, alice, make_task, document):
    client, task = api(alice), make_task()
    run = client.post(f"/api/tasks/{task.pk}/trigger", {}).json()
    schemas = document["components"]["schemas"]
    assert set(run) == set(schemas["Run"]["properties"])
    assert set(client.get(f"/api/tasks/{task.pk}").json()) == set(schemas["Task"]["properties"])
    assert set(client.get("/api/nothing").json()) <= set(schemas["Problem"]["properties"])


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_page_loads_everything_from_this_host(client, slash):
    response = client.get(f"/api/docs{slash}")
    page = response.content.decode()
    sources = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert sources and all(source.startswith("/") and not source.startswith("//") for source in sources), sources
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    policy = response["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    script = client.get(next(source for source in sources if "script=" in source))
    assert script["Content-Type"].startswith("application/javascript") and b"/api/schema" in script.content
    is_problem(client.get("/api/schema", headers={"X-API-Key": "dts_wrong"}), 401)
