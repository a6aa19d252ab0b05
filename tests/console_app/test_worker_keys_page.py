"""The page of worker keys: made and shown once, listed, revoked; and the agents among the workers."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from access_app import worker_keys
from access_app.models import AuditEntry, WorkerKey
from tasks_app.models import Pool
from tests.console_app.factories import make_worker
from tests.workers_app.agents import make_key

ADDRESS = "/workers/keys/"


@pytest.fixture
def as_root(root_user) -> Client:
    client = Client()
    client.force_login(root_user)
    return client


def make(client: Client, **typed: Any) -> Any:
    return client.post(ADDRESS, {"name": "edge", "pools": [Pool.objects.get(name="default").pk]} | typed)


def test_a_new_key_is_shown_once_with_what_to_type_on_its_machine(as_root):
    page = make(as_root)
    key = WorkerKey.objects.get()
    token = page.context["token"]
    assert page.status_code == 200 and "no-store" in page["Cache-Control"]
    assert worker_keys.find(token) == key and key.pool_names == ["default"]
    assert page.text.count(token) == 2 and "http://testserver/api/agent/agent.py" in page.text
    again = as_root.get(ADDRESS).text
    assert token not in again and key.prefix in again and "never" in again


@pytest.mark.parametrize(
    ("typed", "field"), [({"name": ""}, "name"), ({"pools": []}, "pools"), ({"pools": [99]}, "pools")]
)
def test_what_is_wrong_is_said_at_its_field_and_no_key_is_made(as_root, typed, field):
    page = make(as_root, **typed)
    assert page.status_code == 422 and list(page.context["form"].errors) == [field]
    assert not WorkerKey.objects.exists()


def test_a_key_is_revoked_by_button_and_stays_in_the_list(as_root):
    (key, token), (other, _token) = make_key(), make_key(name="other")
    address = reverse("console:worker_key_revoke", args=[key.pk])
    assert address in as_root.get(ADDRESS).text
    page = as_root.post(address, follow=True)
    assert page.redirect_chain == [(ADDRESS, 302)] and "The worker key edge is revoked." in page.text
    assert worker_keys.find(token) is None and address not in page.text
    assert reverse("console:worker_key_revoke", args=[other.pk]) in page.text
    assert AuditEntry.objects.order_by("-pk")[0].verb == "revoke"


def test_a_key_counts_the_workers_that_serve_with_it(as_root):
    key, _token = make_key()
    for state in ("online", "draining", "offline", "lost"):
        make_worker(state, key=key, executors=["shell"], state=state)
    (shown,) = as_root.get(ADDRESS).context["keys"]
    assert shown.serving == 2


def test_others_see_no_keys_and_no_way_there(as_alice, as_charlie, client, db):
    key, token = make_key()
    assert client.get(ADDRESS).status_code == 302
    for person in (as_alice, as_charlie):
        assert person.get(ADDRESS).status_code == 403 and make(person).status_code == 403
        assert person.post(reverse("console:worker_key_revoke", args=[key.pk])).status_code == 404
        assert ADDRESS not in person.get("/workers/").text
    assert worker_keys.find(token) == key and WorkerKey.objects.count() == 1


def test_an_agent_is_told_from_other_workers(as_root):
    key, _token = make_key(name="machines at the edge")
    agent = make_worker("edge-1", key=key, executors=["shell"])
    other = make_worker("core-1")
    assert as_root.get("/workers/").text.count(">agent<") == 1
    page = as_root.get(reverse("console:worker", args=[agent.pk])).text
    assert "by the worker key machines at the edge" in page and ">shell<" in page
    assert "by the worker key" not in as_root.get(reverse("console:worker", args=[other.pk])).text


def test_the_admin_lists_keys_revokes_them_and_does_nothing_else(as_root):
    (key, token), (other, _token) = make_key(), make_key(name="other")
    list_page = reverse("admin:access_app_workerkey_changelist")
    assert key.prefix in as_root.get(list_page).text
    answer = as_root.post(list_page, {"action": "revoke_keys", "_selected_action": [key.pk]}, follow=True)
    assert "The worker key edge is revoked." in answer.text
    assert worker_keys.find(token) is None
    other.refresh_from_db()
    assert other.revoked_at is None
    assert as_root.get(reverse("admin:access_app_workerkey_change", args=[key.pk])).status_code == 200
    assert as_root.get(reverse("admin:access_app_workerkey_add")).status_code == 403
    assert as_root.post(reverse("admin:access_app_workerkey_delete", args=[other.pk])).status_code == 403
    assert as_root.get(reverse("admin:workers_app_worker_changelist")).status_code == 200


def test_the_admin_shows_worker_keys_to_administrators_of_the_installation_alone(alice):
    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    client = Client()
    client.force_login(alice)
    make_key()
    assert client.get(reverse("admin:access_app_workerkey_changelist")).status_code == 403
