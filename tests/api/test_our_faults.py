"""What goes wrong on our side is a problem too, without a word of its inside."""

from __future__ import annotations

import pytest

from tests.api.client import is_problem


@pytest.fixture
def editor(api, alice):
    return api(alice, "editor")


def test_an_exception_that_nobody_expected_is_a_problem_with_the_request_id(editor, monkeypatch, caplog):
    def boom(*args, **options):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("tasks_app.api.tasks.task_rows", boom)
    response = editor.get("/api/tasks", headers={"X-Request-ID": "abc-123"})
    content = is_problem(response, 500)
    assert content["request_id"] == response["X-Request-ID"] == "abc-123"
    assert "secret detail" not in response.content.decode()
    assert "ZeroDivisionError" in caplog.text and "abc-123" in caplog.text


def test_a_database_that_does_not_answer_is_503(editor, monkeypatch):
    from django.db import OperationalError

    def gone(*args, **options):
        raise OperationalError

    monkeypatch.setattr("tasks_app.api.tasks.task_rows", gone)
    response = editor.get("/api/tasks")
    assert is_problem(response, 503)["code"] == "database_unavailable"
    assert response["Retry-After"]
