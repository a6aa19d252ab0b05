"""The page of one's own API keys."""

from __future__ import annotations

from django.test import Client
from django.utils import timezone

from access_app import services
from access_app.actors import system_actor
from access_app.models import ApiKey

FORM = {"name": "ci", "role": "operator", "scopes": ["run"], "addresses": "127.0.0.0/8, 10.1.2.3", "days": "30"}


def foreign_key(user):
    return services.create_key(system_actor(), user, name="foreign", role="viewer", expiry=None, now=timezone.now())[0]


def test_a_new_key_is_shown_once_and_works_within_its_limits(as_alice, alice):
    page = as_alice.post("/keys/", FORM)
    key = ApiKey.objects.get()
    token = page.context["token"]
    assert page.status_code == 200 and token in page.text
    assert (key.user, key.scopes, key.addresses) == (alice, ["run"], ["127.0.0.0/8", "10.1.2.3/32"])
    assert 29 < (key.expiry - timezone.now()).total_seconds() / 86400 <= 30
    again = as_alice.get("/keys/").text
    assert token not in again and "ci" in again and "127.0.0.0/8, 10.1.2.3/32" in again
    assert Client(headers={"X-API-Key": token}).get("/api/tasks").status_code == 200


def test_a_key_that_makes_no_sense_is_told_at_its_field_and_none_is_made(as_alice):
    for field, value in (("name", ""), ("addresses", "intranet"), ("days", "0"), ("role", "god"), ("scopes", ["fly"])):
        page = as_alice.post("/keys/", {**FORM, field: value})
        assert page.status_code == 422 and field in page.context["form"].errors, field
    assert ApiKey.objects.count() == 0


def test_a_deleted_key_is_refused_at_once_and_others_are_out_of_reach(as_alice, bob):
    token = as_alice.post("/keys/", FORM).context["token"]
    theirs = foreign_key(bob)
    assert as_alice.post(f"/keys/{theirs.pk}/delete").status_code == 404
    assert "foreign" not in as_alice.get("/keys/").text
    assert as_alice.post(f"/keys/{ApiKey.objects.get(name='ci').pk}/delete")["Location"] == "/keys/"
    assert Client(headers={"X-API-Key": token}).get("/api/tasks").status_code == 401
    assert list(ApiKey.objects.all()) == [theirs]


def test_an_administrator_sees_only_own_keys_here_and_a_stranger_may_have_some(client, root_user, charlie, bob):
    foreign_key(bob)
    client.force_login(root_user)
    assert "foreign" not in client.get("/keys/").text
    client.force_login(charlie)
    assert client.post("/keys/", FORM).status_code == 200


def test_nobody_comes_in_without_signing_in(client, db):
    assert client.get("/keys/").status_code == 302 and client.post("/keys/", FORM).status_code == 302
    assert ApiKey.objects.count() == 0
