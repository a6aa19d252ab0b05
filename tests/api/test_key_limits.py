"""What narrows a key: its scopes, and the addresses that it is taken from."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from access_app import services
from access_app.actors import system_actor
from access_app.models import ApiKey, AuditEntry
from access_app.roles import Verb
from tests.api.client import Api, is_problem


def key_of(user: Any, **limits: Any) -> Api:
    given = {"name": "k", "role": "admin", "expiry": None, **limits}
    return Api(services.create_key(system_actor(), user, **given, now=timezone.now())[1])


def from_address(client: Api, address: str) -> int:
    return int(client.get("/api/tasks", REMOTE_ADDR=address).status_code)


# Scopes


def test_a_key_does_of_its_role_what_its_scopes_name_and_looks_always(alice, make_task):
    task = make_task()
    client = key_of(alice, scopes=["run"])
    assert client.get(f"/api/tasks/{task.pk}").status_code == 200
    assert client.post(f"/api/tasks/{task.pk}/trigger").status_code == 201
    for answer in (
        client.post(f"/api/tasks/{task.pk}/pause"),
        client.patch(f"/api/tasks/{task.pk}", {"description": "x"}),
        client.delete(f"/api/tasks/{task.pk}"),
        client.post("/api/tasks", {"name": "new", "project": "analytics", "executor": "shell", "command": "true"}),
    ):
        assert "scopes" in is_problem(answer, 403)["detail"]
    everything = key_of(alice)
    assert everything.post(f"/api/tasks/{task.pk}/pause").status_code == 200
    assert everything.delete(f"/api/tasks/{task.pk}").status_code == 204


def test_a_scope_gives_nothing_that_the_role_does_not(alice, bob, make_task):
    task = make_task()
    for user, role in ((bob, "admin"), (alice, "operator")):
        client = key_of(user, role=role, scopes=["edit", "run"])
        is_problem(client.patch(f"/api/tasks/{task.pk}", {"description": "x"}), 403)
        assert client.post(f"/api/tasks/{task.pk}/trigger").status_code == 201


def test_a_key_without_the_scope_to_manage_administers_nothing_of_its_administrator(root_user):
    narrow, wide = key_of(root_user, scopes=["edit"]), key_of(root_user, scopes=["manage"])
    for path in ("/api/audit", "/api/users"):
        is_problem(narrow.get(path), 403)
    assert wide.get("/api/users").status_code == 200
    is_problem(narrow.post("/api/pools", {"name": "new"}), 403)


def test_lists_and_details_agree_on_what_a_scope_hides(alice, make_task):
    task = make_task(params={"region": "eu"})
    blind, seeing = key_of(alice, scopes=["run"]), key_of(alice, scopes=["see_parameters"])
    for path in (f"/api/tasks/{task.pk}", "/api/tasks"):
        assert "eu" not in blind.get(path).text and "eu" in seeing.get(path).text


@pytest.mark.parametrize("scopes", [["fly"], "run", ["run", 1], None, ["run"] * 50])
def test_a_scope_that_is_none_is_refused(api, alice, scopes):
    before = ApiKey.objects.count()
    is_problem(api(alice).post("/api/auth/keys", {"name": "k", "scopes": scopes}), 400)
    assert ApiKey.objects.count() == before + 1


def test_a_key_makes_and_deletes_none_with_more_scopes_than_its_own(alice):
    client = key_of(alice, scopes=["run", "cancel"])
    wide = ApiKey.objects.get()
    wider, _token = services.create_key(system_actor(), alice, name="w", role="viewer", expiry=None, now=timezone.now())
    for scopes in ([], ["edit"], ["run", "edit"]):
        is_problem(client.post("/api/auth/keys", {"name": "k", "role": "operator", "scopes": scopes}), 403)
    made = client.post("/api/auth/keys", {"name": "k", "role": "operator", "scopes": ["run", "run"]})
    assert made.status_code == 201 and made.json()["scopes"] == ["run"]
    is_problem(client.delete(f"/api/auth/keys/{wider.pk}"), 403)
    assert client.delete(f"/api/auth/keys/{made.json()['id']}").status_code == 204
    assert client.delete(f"/api/auth/keys/{wide.pk}").status_code == 204
    assert list(ApiKey.objects.all()) == [wider]


# Addresses


def test_a_key_is_taken_from_its_addresses_alone_and_what_else_is_refused_is_audited(alice):
    client = key_of(alice, addresses=["198.51.100.0/24", "2001:db8::/32"])
    free = key_of(alice)
    assert [from_address(client, one) for one in ("198.51.100.7", "::ffff:198.51.100.7", "2001:db8::7")] == [200] * 3
    assert from_address(client, "203.0.113.9") == 401
    assert from_address(free, "203.0.113.9") == 200
    entry = AuditEntry.objects.get(verb="refused")
    assert (entry.actor, entry.address) == ("user alice", "203.0.113.9")
    assert entry.after == {"reason": "address_not_on_the_list_of_the_key"}


def test_a_forged_header_makes_no_address_of_the_list(alice):
    client = key_of(alice, addresses=["198.51.100.0/24"])
    forged = {"X-Forwarded-For": "198.51.100.7"}
    is_problem(client.get("/api/tasks", REMOTE_ADDR="203.0.113.9", headers=forged), 401)


@pytest.mark.parametrize("addresses", [["intranet"], ["10.0.0.0/33"], ["1.2.3.4"] * 51, "10.0.0.0/8", [""], [None]])
def test_an_address_range_that_is_none_is_refused(api, alice, addresses):
    before = ApiKey.objects.count()
    is_problem(api(alice).post("/api/auth/keys", {"name": "k", "addresses": addresses}), 400)
    assert ApiKey.objects.count() == before + 1


def test_a_key_makes_none_that_is_taken_from_more_addresses(alice):
    key, _token = services.create_key(
        system_actor(),
        alice,
        name="k",
        role="admin",
        addresses=["127.0.0.0/8", "10.0.0.0/8"],
        expiry=None,
        now=timezone.now(),
    )
    client = Api(_token)
    for addresses in ([], ["0.0.0.0/0"], ["10.0.0.0/8", "11.0.0.0/8"], ["::/0"]):
        is_problem(client.post("/api/auth/keys", {"name": "k", "addresses": addresses}), 403)
    made = client.post("/api/auth/keys", {"name": "k", "addresses": ["10.1.2.3", "::ffff:10.2.0.0/112"]})
    assert made.status_code == 201 and made.json()["addresses"] == ["10.1.2.3/32", "10.2.0.0/16"]
    assert key.addresses == ["127.0.0.0/8", "10.0.0.0/8"]


def test_the_trail_says_what_a_key_was_limited_to(api, alice):
    api(alice).post("/api/auth/keys", {"name": "k", "scopes": ["run"], "addresses": ["10.0.0.0/8"]})
    after = AuditEntry.objects.filter(object_type="apikey", verb="create").latest("id").after
    assert after is not None and (after["scopes"], after["addresses"]) == (["run"], ["10.0.0.0/8"])
    assert set(after["scopes"]) <= {verb.value for verb in Verb}
