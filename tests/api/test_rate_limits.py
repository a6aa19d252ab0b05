"""Rate limits as a client of the API meets them."""

from __future__ import annotations

import pytest
from django.test import Client

from access_app import rates
from tests.api.client import is_problem


@pytest.fixture
def five_a_minute(settings, monkeypatch):
    settings.SCHEDULER_REQUESTS_PER_MINUTE = 5
    # The count begins anew at the end of a minute, wherever the test finds itself in it.
    monkeypatch.setattr(rates, "SECONDS", 10**9)


def test_answers_say_where_one_stands_and_beyond_the_limit_when_to_ask_again(five_a_minute, api, alice):
    client, other = api(alice), api(alice)
    answers = [client.get("/api/system/info") for _ in range(5)]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0"]
    assert {answer["RateLimit-Limit"] for answer in answers} == {"5"}
    refused = client.get("/api/system/info")
    assert is_problem(refused, 429)["code"] == "rate_limited"
    assert refused["Retry-After"] == refused["RateLimit-Reset"] and refused["RateLimit-Remaining"] == "0"
    assert other.get("/api/system/info").status_code == 200


def test_a_refused_request_changes_nothing(five_a_minute, api, alice, make_task):
    task, client = make_task(), api(alice)
    codes = [client.post(f"/api/tasks/{task.pk}/trigger").status_code for _ in range(7)]
    assert codes == [201] * 5 + [429] * 2
    assert task.runs.count() == 5


def test_sessions_and_tokens_of_a_user_are_counted_together_and_keys_apart(five_a_minute, api, alice, bob):
    body = {"username": "alice", "password": "correct horse battery"}
    access = api(None).post("/api/auth/token", body).json()["access"]
    token = Client(headers={"Authorization": f"Bearer {access}"})
    session = Client()
    session.force_login(alice)
    codes = [each.get("/api/system/info").status_code for each in (token, session) * 3]
    assert codes == [200] * 5 + [429]
    assert api(alice).get("/api/system/info").status_code == 200
    session.force_login(bob)
    assert session.get("/api/system/info").status_code == 200


def test_batches_are_counted_apart(five_a_minute, settings, api, alice, make_task):
    settings.SCHEDULER_REQUESTS_PER_MINUTE = 20
    task, client = make_task(), api(alice)
    codes = [client.post(f"/api/tasks/{task.pk}/trigger-batch", {"items": [{}]}).status_code for _ in range(3)]
    assert codes == [201, 201, 429]
    assert client.get("/api/system/info").status_code == 200


def test_a_limit_is_changed_without_a_restart_and_zero_is_none(five_a_minute, api, root_user, alice):
    admin, client = api(root_user), api(alice)
    assert admin.patch("/api/settings", {"requests_per_minute": 1}).status_code == 200
    assert [client.get("/api/system/info").status_code for _ in range(2)] == [200, 429]
    session = Client()
    session.force_login(root_user)
    assert (
        session.patch("/api/settings", {"requests_per_minute": 0}, content_type="application/json").status_code == 200
    )
    answer = client.get("/api/system/info")
    assert answer.status_code == 200 and "RateLimit-Limit" not in answer


def test_another_process_follows_within_seconds(five_a_minute, api, alice, monkeypatch):
    from access_app import runtime
    from access_app.models import RuntimeSetting

    client = api(alice)
    client.get("/api/system/info")
    RuntimeSetting.objects.create(
        name="requests_per_minute", value=1, updated_at="2026-03-01T00:00:00Z", updated_by="elsewhere"
    )
    runtime.forget()
    assert client.get("/api/tasks").status_code == 200
    monkeypatch.setattr(rates, "REFRESH_SECONDS", 0)
    assert [client.get("/api/tasks").status_code for _ in range(2)] == [200, 429]


def test_agents_are_paced_by_the_scheduler_and_not_counted(five_a_minute, root_user):
    from django.utils import timezone

    from access_app import worker_keys
    from access_app.actors import system_actor
    from tests.api.client import Api, default_pool

    _key, token = worker_keys.create(system_actor(), name="k", pools=[default_pool()], now=timezone.now())
    client = Api(token)
    codes = {client.post("/api/workers", {}).status_code for _ in range(8)}
    assert codes == {400}


def test_nothing_is_asked_of_the_database_where_there_is_no_limit(api, alice, django_assert_num_queries):
    client = api(alice)
    client.get("/api/system/info")
    with django_assert_num_queries(2):
        assert "RateLimit-Limit" not in client.get("/api/system/info")
