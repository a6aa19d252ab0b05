"""JWT: a pair for a password, one use for a refresh token, and what is refused leaves a trace."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
import time_machine
from django.conf import settings as django_settings
from django.test import Client
from django.urls import reverse

from access_app import tokens
from access_app.models import AuditEntry, TokenFamily
from tests.api.client import Api, is_problem

PASSWORD = "correct horse battery"


@pytest.fixture
def anyone(api):
    return api(None)


def sign_in(client: Api, name: str = "alice", password: str = PASSWORD) -> dict[str, Any]:
    response = client.post("/api/auth/token", {"username": name, "password": password})
    assert response.status_code == 200, response.content
    return dict(response.json())


def with_token(token: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {token}"})


def refusals_of(**fields: Any) -> list[str]:
    rows = AuditEntry.objects.filter(verb="refused", **fields).order_by("id")
    return list(rows.values_list("after__reason", flat=True))


def forged(token: str, *, key: bytes | None = None, algorithm: str = "HS256", without: str = "", **claims: Any) -> str:
    """The token with other claims, signed anew with our key or another one."""
    payload = jwt.decode(token, options={"verify_signature": False}) | claims
    payload.pop(without, None)
    return jwt.encode(payload, tokens._derived(django_settings.SECRET_KEY) if key is None else key, algorithm)


# The way it is meant


def test_a_password_gives_a_pair_and_the_access_token_opens_what_its_user_may_see(anyone, alice, make_task):
    make_task("one")
    response = anyone.post("/api/auth/token", {"username": "alice", "password": PASSWORD})
    assert response["Cache-Control"] == "no-store"
    pair = response.json()
    assert set(pair) == {"access", "refresh", "token_type", "expires_in"} and pair["expires_in"] == 600
    listed = with_token(pair["access"]).get("/api/tasks").json()["results"]
    assert [task["name"] for task in listed] == ["one"]


def test_a_token_has_one_algorithm_our_audience_and_issuer_and_ends_within_ten_minutes(anyone, alice):
    pair = sign_in(anyone)
    assert jwt.get_unverified_header(pair["access"]) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(pair["access"], options={"verify_signature": False})
    assert (claims["aud"], claims["iss"], claims["sub"]) == ("scheduler-api", "scheduler", str(alice.pk))
    assert 0 < claims["exp"] - claims["iat"] <= 600
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(pair["access"], django_settings.SECRET_KEY, ["HS256"], audience="scheduler-api")


def test_a_change_over_a_token_is_audited_as_its_users_and_needs_no_csrf_token(anyone, alice, make_task):
    access = sign_in(anyone)["access"]
    client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {access}"})
    task = make_task()
    assert client.post(f"/api/tasks/{task.pk}/trigger", content_type="application/json").status_code == 201
    assert AuditEntry.objects.filter(actor="user alice", verb="sign_in", address="127.0.0.1").count() == 1
    assert AuditEntry.objects.latest("id").actor == "user alice"


def test_a_token_may_do_no_more_than_its_user(anyone, bob, charlie, make_task):
    task = make_task()
    operator = Client(headers={"Authorization": f"Bearer {sign_in(anyone, 'bob')['access']}"})
    assert operator.post(f"/api/tasks/{task.pk}/trigger", content_type="application/json").status_code == 201
    is_problem(operator.delete(f"/api/tasks/{task.pk}"), 403)
    is_problem(with_token(sign_in(anyone, "charlie")["access"]).get(f"/api/tasks/{task.pk}"), 404)


def test_finding_the_user_of_a_token_costs_one_query(anyone, alice, django_assert_num_queries):
    access = sign_in(anyone)["access"]
    with django_assert_num_queries(1):
        assert with_token(access).get("/api/schema").status_code == 200


def test_a_refresh_gives_a_new_pair_and_spends_the_old_token(anyone, alice):
    first = sign_in(anyone)
    second = anyone.post("/api/auth/token/refresh", {"refresh": first["refresh"]})
    assert second.status_code == 200 and second["Cache-Control"] == "no-store"
    assert second.json()["refresh"] != first["refresh"]
    assert with_token(second.json()["access"]).get("/api/tasks").status_code == 200
    third = anyone.post("/api/auth/token/refresh", {"refresh": second.json()["refresh"]})
    assert third.status_code == 200 and TokenFamily.objects.count() == 1


# What is refused


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", "not the one"), ("nobody", PASSWORD), ("Alice", PASSWORD), ("alice", f"{PASSWORD} ")],
)
def test_a_wrong_name_and_a_wrong_password_are_refused_alike_and_audited(anyone, alice, name, password):
    response = anyone.post("/api/auth/token", {"username": name, "password": password})
    assert is_problem(response, 401)["code"] == "sign_in_refused"
    assert response["WWW-Authenticate"].startswith("Bearer")
    entry = AuditEntry.objects.get(verb="refused")
    assert (entry.object_type, entry.object_name, entry.after) == ("sign-in", name, {"reason": "wrong_password"})
    assert password not in str(entry.after) and TokenFamily.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "username"),
        ({"username": "alice"}, "password"),
        ({"username": ["alice"], "password": PASSWORD}, "username"),
        ({"username": "alice", "password": 1}, "password"),
        ({"username": "alice", "password": PASSWORD, "role": "admin"}, "role"),
        ({"username": "x" * 151, "password": PASSWORD}, "username"),
    ],
)
def test_a_sign_in_that_makes_no_sense_is_refused_at_its_field(anyone, alice, body, field):
    is_problem(anyone.post("/api/auth/token", body), 400, field)


def _unsigned(token: str, algorithm: str) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


FORGERIES: dict[str, tuple[Callable[[str], str], str]] = {
    "algorithm none": (lambda token: _unsigned(token, "none"), "wrong_algorithm"),
    "algorithm NoNe": (lambda token: _unsigned(token, "NoNe"), "wrong_algorithm"),
    "algorithm none, signature kept": (
        lambda token: _unsigned(token, "none") + token.split(".")[2],
        "wrong_algorithm",
    ),
    "another HMAC": (lambda token: forged(token, key=b"k" * 64, algorithm="HS512"), "wrong_algorithm"),
    "the secret key itself": (
        lambda token: forged(token, key=django_settings.SECRET_KEY.encode()),
        "wrong_signature",
    ),
    "no key": (lambda token: forged(token, key=b"\0" * 32), "wrong_signature"),
    "signature cut off": (lambda token: token.rpartition(".")[0] + ".", "wrong_signature"),
    "another audience": (lambda token: forged(token, aud="scheduler-console"), "other_audience"),
    "no audience": (lambda token: forged(token, without="aud"), "claim_missing"),
    "another issuer": (lambda token: forged(token, iss="elsewhere"), "other_issuer"),
    "no end": (lambda token: forged(token, without="exp"), "wrong_kind"),
    "run out": (lambda token: forged(token, exp=1), "expired"),
    "of another kind": (lambda token: forged(token, token_type="refresh"), "wrong_kind"),
    "of another user": (lambda token: forged(token, sub="999"), "unknown"),
    "of no family": (lambda token: forged(token, without="family"), "claim_missing"),
    "of a made up family": (lambda token: forged(token, family=uuid4().hex), "unknown"),
    "of a family that is no id": (lambda token: forged(token, family="' OR 1=1"), "claim_missing"),
    "no token": (lambda _token: "a.b.c", "malformed"),
    "endless": (lambda token: token + "x" * 10_000, "malformed"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_token_that_is_not_quite_ours_is_refused_and_audited(anyone, alice, name):
    forge, reason = FORGERIES[name]
    access = sign_in(anyone)["access"]
    response = with_token(forge(access)).get("/api/tasks")
    assert is_problem(response, 401)["code"] in ("invalid_token", "token_expired")
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert refusals_of(object_type="token") == [reason]
    assert with_token(access).get("/api/tasks").status_code == 200


def test_a_token_in_the_query_or_in_the_header_of_keys_lets_nobody_in(anyone, alice):
    access = sign_in(anyone)["access"]
    is_problem(Client().get("/api/tasks", {"access_token": access}), 401)
    is_problem(Client(headers={"X-API-Key": access}).get("/api/tasks"), 401)


def test_an_access_token_ends_after_ten_minutes_and_the_refresh_token_gives_another(anyone, alice):
    with time_machine.travel("2026-03-01T12:00:00Z", tick=False) as clock:
        pair = sign_in(anyone)
        clock.shift(timedelta(minutes=9, seconds=59))
        assert with_token(pair["access"]).get("/api/tasks").status_code == 200
        clock.shift(timedelta(seconds=1))
        assert is_problem(with_token(pair["access"]).get("/api/tasks"), 401)["code"] == "token_expired"
        fresh = anyone.post("/api/auth/token/refresh", {"refresh": pair["refresh"]}).json()
        assert with_token(fresh["access"]).get("/api/tasks").status_code == 200


def test_a_family_ends_after_thirty_days_however_often_it_is_refreshed(anyone, alice):
    with time_machine.travel("2026-03-01T12:00:00Z", tick=False) as clock:
        refresh = sign_in(anyone)["refresh"]
        for _ in range(4):
            clock.shift(timedelta(days=6))
            refresh = anyone.post("/api/auth/token/refresh", {"refresh": refresh}).json()["refresh"]
        clock.shift(timedelta(days=6))
        response = anyone.post("/api/auth/token/refresh", {"refresh": refresh})
        assert is_problem(response, 401)["code"] == "token_expired"
        assert sign_in(anyone) and TokenFamily.objects.count() == 1


# Reuse


def test_a_spent_refresh_token_ends_the_whole_family_and_no_other(anyone, alice, bob):
    first, elsewhere, other = sign_in(anyone), sign_in(anyone), sign_in(anyone, "bob")
    second = anyone.post("/api/auth/token/refresh", {"refresh": first["refresh"]}).json()
    replayed = anyone.post("/api/auth/token/refresh", {"refresh": first["refresh"]})
    assert is_problem(replayed, 401)["code"] == "invalid_token"
    is_problem(anyone.post("/api/auth/token/refresh", {"refresh": second["refresh"]}), 401)
    for access in (first["access"], second["access"]):
        is_problem(with_token(access).get("/api/tasks"), 401)
    for access in (elsewhere["access"], other["access"]):
        assert with_token(access).get("/api/tasks").status_code == 200
    ended = AuditEntry.objects.get(verb="revoke", object_type="tokenfamily")
    assert (ended.after, ended.actor) == ({"why": "replayed", "user": "alice"}, "token replay")
    assert refusals_of(object_type="token", user=alice.pk)[:2] == ["replayed", "revoked"]


def test_the_same_token_replayed_without_end_writes_no_more_than_once_a_minute(anyone, alice):
    first = sign_in(anyone)
    anyone.post("/api/auth/token/refresh", {"refresh": first["refresh"]})
    for _ in range(20):
        is_problem(anyone.post("/api/auth/token/refresh", {"refresh": first["refresh"]}), 401)
    assert refusals_of(object_type="token") == ["replayed"]
    assert AuditEntry.objects.filter(verb="revoke").count() == 1


def test_an_administrator_ends_the_tokens_of_a_sign_in_in_the_admin_and_nobody_else_sees_them(
    anyone, alice, bob, root_user
):
    pair, other = sign_in(anyone), sign_in(anyone, "bob")
    page = reverse("admin:access_app_tokenfamily_changelist")
    chosen = {"action": "revoke_tokens", "_selected_action": [TokenFamily.objects.get(user=alice).pk]}
    bob.is_staff = True
    bob.save(update_fields=["is_staff"])
    for user, status in ((bob, 403), (root_user, 302)):
        client = Client()
        client.force_login(user)
        assert client.post(page, chosen).status_code == status
    is_problem(with_token(pair["access"]).get("/api/tasks"), 401)
    assert with_token(other["access"]).get("/api/tasks").status_code == 200
    assert AuditEntry.objects.get(verb="revoke").actor == "user root"


# Revoked, inactive, another password


def test_a_revoked_sign_in_is_over_at_once_and_another_one_goes_on(anyone, alice):
    pair, other = sign_in(anyone), sign_in(anyone)
    assert anyone.post("/api/auth/token/revoke", {"refresh": pair["refresh"]}).status_code == 204
    assert is_problem(with_token(pair["access"]).get("/api/tasks"), 401)["code"] == "invalid_token"
    is_problem(anyone.post("/api/auth/token/refresh", {"refresh": pair["refresh"]}), 401)
    assert with_token(other["access"]).get("/api/tasks").status_code == 200
    assert AuditEntry.objects.get(verb="revoke").after == {"why": "revoked", "user": "alice"}
    assert anyone.post("/api/auth/token/revoke", {"refresh": pair["refresh"]}).status_code == 204
    assert AuditEntry.objects.filter(verb="revoke").count() == 1


def test_only_a_refresh_token_of_ours_revokes(anyone, alice):
    pair = sign_in(anyone)
    for text in (pair["access"], forged(pair["refresh"], key=b"\0" * 32), "nonsense"):
        is_problem(anyone.post("/api/auth/token/revoke", {"refresh": text}), 401)
    assert with_token(pair["access"]).get("/api/tasks").status_code == 200


def test_the_tokens_of_an_inactive_user_are_refused(anyone, alice, bob):
    pair, other = sign_in(anyone), sign_in(anyone, "bob")
    alice.is_active = False
    alice.save(update_fields=["is_active"])
    is_problem(with_token(pair["access"]).get("/api/tasks"), 401)
    is_problem(anyone.post("/api/auth/token/refresh", {"refresh": pair["refresh"]}), 401)
    is_problem(anyone.post("/api/auth/token", {"username": "alice", "password": PASSWORD}), 401)
    assert with_token(other["access"]).get("/api/tasks").status_code == 200
    assert refusals_of(object_type="token", user=alice.pk) == ["inactive_user"]


def test_with_another_password_the_tokens_of_the_old_one_are_refused(anyone, alice, bob):
    pair, other = sign_in(anyone), sign_in(anyone, "bob")
    alice.set_password("another correct horse")
    alice.save(update_fields=["password"])
    is_problem(with_token(pair["access"]).get("/api/tasks"), 401)
    is_problem(anyone.post("/api/auth/token/refresh", {"refresh": pair["refresh"]}), 401)
    assert with_token(other["access"]).get("/api/tasks").status_code == 200
    assert with_token(sign_in(anyone, password="another correct horse")["access"]).get("/api/tasks").status_code == 200
    assert refusals_of(object_type="token") == ["password_changed"]


def test_tokens_survive_a_new_secret_key_while_the_old_one_is_a_fallback(anyone, alice, settings):
    pair = sign_in(anyone)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "the next one " + "n" * 50
    is_problem(with_token(pair["access"]).get("/api/tasks"), 401)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert with_token(pair["access"]).get("/api/tasks").status_code == 200
    fresh = anyone.post("/api/auth/token/refresh", {"refresh": pair["refresh"]}).json()
    settings.SECRET_KEY_FALLBACKS = []
    assert refusals_of(object_type="token") == ["wrong_signature"]
    assert jwt.decode(fresh["access"], tokens._derived(settings.SECRET_KEY), ["HS256"], audience="scheduler-api")[
        "sub"
    ] == str(alice.pk)
