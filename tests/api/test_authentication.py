"""Who gets in: keys in headers, sessions with CSRF, and nobody else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from access_app import services
from access_app.actors import system_actor
from access_app.models import ApiKey, AuditEntry
from tests.api.client import Api, is_problem


def make_key(user, role="admin", expiry=None):
    return services.create_key(system_actor(), user, name="k", role=role, expiry=expiry, now=timezone.now())


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_a_key_is_taken_from_either_header(alice, header):
    _key, token = make_key(alice)
    value = token if header == "X-API-Key" else f"Bearer {token}"
    assert Client(headers={header: value}).get("/api/tasks").status_code == 200


def test_without_a_key_the_answer_is_401_and_says_how_to_authenticate(db):
    response = Client().get("/api/tasks")
    assert is_problem(response, 401)["code"] == "not_authenticated"
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("token", ["dts_wrong", "", "Basic YTpi", "ключ", "x" * 10_000, "dts_" + "é"])
def test_a_wrong_key_is_refused(db, token):
    is_problem(Client(headers={"Authorization": f"Bearer {token}"}).get("/api/tasks"), 401)


def test_a_key_in_the_query_string_lets_nobody_in(alice):
    _key, token = make_key(alice)
    for name in ("key", "api_key", "X-API-Key", "token", "access_token"):
        is_problem(Client().get("/api/tasks", {name: token}), 401)


def test_a_key_that_has_run_out_is_refused_and_one_that_has_not_is_taken(alice):
    key, token = make_key(alice, expiry=timezone.now() + timedelta(hours=1))
    client = Client(headers={"X-API-Key": token})
    assert client.get("/api/tasks").status_code == 200
    ApiKey.objects.filter(pk=key.pk).update(expiry=timezone.now() - timedelta(seconds=1))
    assert is_problem(client.get("/api/tasks"), 401)["code"] == "invalid_key"


def test_the_key_of_an_inactive_user_is_refused(alice, bob):
    _key, token = make_key(alice)
    _key, other = make_key(bob)
    alice.is_active = False
    alice.save(update_fields=["is_active"])
    is_problem(Client(headers={"X-API-Key": token}).get("/api/tasks"), 401)
    assert Client(headers={"X-API-Key": other}).get("/api/tasks").status_code == 200


def test_finding_a_key_costs_one_query_and_noting_its_use_one_write_a_minute(alice, django_assert_num_queries):
    key, token = make_key(alice)
    client = Client(headers={"X-API-Key": token})
    client.get("/api/system/info")
    key.refresh_from_db()
    first = key.last_used_at
    assert first is not None
    # The other one reads the runtime settings, which name the broker.
    with django_assert_num_queries(2):
        client.get("/api/system/info")
    key.refresh_from_db()
    assert key.last_used_at == first
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=first - timedelta(minutes=2))
    client.get("/api/system/info")
    key.refresh_from_db()
    assert key.last_used_at >= first


def test_a_session_reads_without_and_writes_only_with_the_csrf_token(alice, make_task):
    task = make_task()
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.get("/api/tasks").status_code == 200
    is_problem(client.post(f"/api/tasks/{task.pk}/trigger", content_type="application/json"), 403)
    client.cookies["csrftoken"] = token = "a" * 32
    ok = client.post(f"/api/tasks/{task.pk}/trigger", content_type="application/json", headers={"X-CSRFToken": token})
    assert ok.status_code == 201


def test_a_key_needs_no_csrf_token(alice, make_task):
    _key, token = make_key(alice)
    client = Client(enforce_csrf_checks=True, headers={"X-API-Key": token})
    assert client.post(f"/api/tasks/{make_task().pk}/trigger", content_type="application/json").status_code == 201


# The keys themselves


def test_a_key_is_shown_once_and_only_its_digest_is_kept(api, bob):
    client = api(bob)
    made = client.post("/api/auth/keys", {"name": "ci", "role": "operator"})
    assert made.status_code == 201 and made["Cache-Control"] == "no-store"
    token = made.json()["key"]
    assert token.startswith("dts_")
    assert Api(token).get("/api/tasks").status_code == 200
    listed = client.get("/api/auth/keys").json()["results"]
    assert [key["name"] for key in listed] == ["ci", "tests"]
    assert token not in client.get("/api/auth/keys").content.decode()
    assert not ApiKey.objects.filter(digest=token).exists()
    assert AuditEntry.objects.filter(object_type="apikey", verb="create", object_id=str(made.json()["id"])).exists()


def test_a_key_cannot_make_a_stronger_one(api, alice):
    is_problem(api(alice, "operator").post("/api/auth/keys", {"name": "up", "role": "editor"}), 403)
    assert api(alice, "operator").post("/api/auth/keys", {"name": "same", "role": "operator"}).status_code == 201


@pytest.mark.parametrize("end", [None, timedelta(hours=2)])
def test_a_key_cannot_make_one_that_outlives_it(alice, end):
    now = timezone.now()
    _key, token = make_key(alice, expiry=now + timedelta(hours=1))
    body = {"name": "k", "expires_at": end and (now + end).isoformat()}
    before = ApiKey.objects.count()
    is_problem(Api(token).post("/api/auth/keys", body), 403)
    assert ApiKey.objects.count() == before
    earlier = {"name": "k", "expires_at": (now + timedelta(minutes=59)).isoformat()}
    assert Api(token).post("/api/auth/keys", earlier).status_code == 201
    _key, endless = make_key(alice)
    assert Api(endless).post("/api/auth/keys", body).status_code == 201


def test_a_key_ends_at_the_very_instant_that_was_asked_for(api, alice):
    asked = (timezone.now() + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    made = api(alice).post("/api/auth/keys", {"name": "k", "expires_at": asked}).json()
    assert made["expires_at"] == asked
    assert api(alice).get("/api/auth/keys?limit=2").json()["results"][1]["expires_at"] == asked


def test_a_key_deletes_no_stronger_key_of_its_owner_but_itself_and_its_equals(api, alice):
    strong, _token = make_key(alice, "admin")
    equal, _token = make_key(alice, "viewer")
    weak = api(alice, "viewer")
    own = weak.get("/api/auth/keys").json()["results"][0]["id"]
    is_problem(weak.delete(f"/api/auth/keys/{strong.pk}"), 403)
    assert weak.delete(f"/api/auth/keys/{equal.pk}").status_code == 204
    assert weak.delete(f"/api/auth/keys/{own}").status_code == 204
    assert list(ApiKey.objects.values_list("pk", flat=True)) == [strong.pk]


def test_a_deleted_key_is_refused_and_the_others_of_its_user_are_not(api, alice):
    client, other = api(alice), api(alice)
    key_id = client.get("/api/auth/keys").json()["results"][-1]["id"]
    assert client.delete(f"/api/auth/keys/{key_id}").status_code == 204
    is_problem(client.get("/api/tasks"), 401)
    assert other.get("/api/tasks").status_code == 200


def test_keys_of_others_are_not_there_except_for_an_administrator(api, alice, bob, root_user):
    key, _token = make_key(alice)
    mine, admin = api(bob), api(root_user)
    assert key.pk not in [row["id"] for row in mine.get("/api/auth/keys").json()["results"]]
    is_problem(mine.delete(f"/api/auth/keys/{key.pk}"), 404)
    assert key.pk in [row["id"] for row in admin.get("/api/auth/keys").json()["results"]]
    is_problem(api(root_user, "viewer").delete(f"/api/auth/keys/{key.pk}"), 404)
    assert ApiKey.objects.filter(pk=key.pk).exists()
    assert admin.delete(f"/api/auth/keys/{key.pk}").status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a", "role": "god"}, "role"),
        ({"name": "a", "role": None}, "role"),
        ({"name": "a", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "a", "expires_at": "2090-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "a", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "a", "user": "root"}, "user"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_at_its_field(api, alice, body, field):
    before = ApiKey.objects.count()
    is_problem(api(alice).post("/api/auth/keys", body), 400, field)
    assert ApiKey.objects.count() == before + 1


def test_only_an_administrator_of_the_installation_reads_the_audit_trail(api, alice, root_user):
    is_problem(api(alice).get("/api/audit"), 403)
    is_problem(api(root_user, "editor").get("/api/audit"), 403)
    rows = api(root_user).get("/api/audit?object_type=apikey&limit=1").json()["results"]
    assert rows[0]["verb"] == "create" and rows[0]["object_type"] == "apikey"
