"""The page of runtime settings, and its sister in the admin."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from access_app import runtime, runtime_services
from access_app.actors import system_actor
from access_app.models import AuditEntry, RuntimeSetting
from dispatcher_app.runtime_settings import PACK_SIZE, SWEEP_SECONDS
from workers_app import brokers
from workers_app.runtime_settings import BROKER_URL

pytestmark = pytest.mark.usefixtures("any_broker")
SECRET = "amqp://me:hush@rabbit.example:5672//"
ADMIN = "/admin/access_app/runtimesetting/"


@pytest.fixture
def as_root(root_user) -> Client:
    client = Client()
    client.force_login(root_user)
    return client


@pytest.fixture
def kept(db) -> None:
    runtime_services.change(system_actor("test"), {"broker_url": SECRET, "pack_size": 7}, now=timezone.now())


def typed(**changed: str) -> dict[str, str]:
    """The form as the page shows it for `kept`, with what a person has typed."""
    shown = {"broker_url": "amqp://me:********@rabbit.example:5672//", "pack_size": "7"}
    return {"drain_seconds": "", "kill_grace_seconds": "", "sweep_seconds": "", **shown, **changed}


def test_the_page_shows_values_and_defaults_and_no_secret(as_root, kept):
    page = as_root.get("/settings/")
    assert page.status_code == 200
    for text in ("amqp://me:********@rabbit.example:5672//", "Default: 100.", "Set by test", "Runs in a message"):
        assert text in page.text, text
    assert "hush" not in page.text


def test_what_is_typed_holds_what_is_emptied_has_its_default_and_the_rest_stays(as_root, kept):
    saved = as_root.post("/settings/", typed(sweep_seconds="12.5", pack_size=""), follow=True)
    assert "Saved." in saved.text
    assert (SWEEP_SECONDS.value, PACK_SIZE.value, BROKER_URL.value) == (12.5, 100, SECRET)
    assert set(RuntimeSetting.objects.values_list("name", flat=True)) == {"broker_url", "sweep_seconds"}


@pytest.mark.parametrize(
    ("name", "value"), [("sweep_seconds", "0"), ("pack_size", "many"), ("broker_url", "memory://localhost/")]
)
def test_a_mistake_stands_at_its_field_and_nothing_is_saved(as_root, kept, name, value):
    page = as_root.post("/settings/", typed(**{"drain_seconds": "9", name: value}))
    assert page.status_code == 422 and page.context["form"].errors.keys() == {name}
    assert RuntimeSetting.objects.count() == 2


def test_a_broker_that_refuses_us_is_not_saved_and_its_words_stand_at_the_field(as_root, kept, monkeypatch):
    monkeypatch.setattr(brokers, "refusal_of", lambda _url: "It says no.")
    page = as_root.post("/settings/", typed(broker_url="amqp://other.example//"))
    assert page.status_code == 422 and "It says no." in page.text
    refused = as_root.post(f"{ADMIN}broker_url/change/", {"typed": "amqp://other.example//"})
    assert refused.status_code == 200 and "It says no." in refused.text
    runtime.refresh()
    assert BROKER_URL.value == SECRET


def test_only_administrators_of_the_installation_are_let_in_or_shown_the_way(as_root, as_alice, kept):
    assert as_alice.get("/settings/").status_code == 403
    assert as_alice.post("/settings/", typed(pack_size="9")).status_code == 403
    assert PACK_SIZE.value == 7
    assert 'href="/settings/"' in as_root.get("/").text
    assert 'href="/settings/"' not in as_alice.get("/").text


def test_the_admin_lists_adds_changes_and_deletes_through_the_service(as_root, kept):
    listed = as_root.get(ADMIN).text
    assert "amqp://me:********@rabbit.example:5672//" in listed and "hush" not in listed
    assert as_root.post(f"{ADMIN}add/", {"name": "sweep_seconds", "typed": "30"}).status_code == 302
    assert SWEEP_SECONDS.value == 30.0
    assert as_root.post(f"{ADMIN}pack_size/change/", {"typed": "9"}).status_code == 302
    assert PACK_SIZE.value == 9
    refused = as_root.post(f"{ADMIN}pack_size/change/", {"typed": "many"})
    assert refused.status_code == 200 and "whole number" in refused.text
    assert as_root.post(f"{ADMIN}pack_size/delete/", {"post": "yes"}).status_code == 302
    assert PACK_SIZE.value == 100
    page = as_root.get(f"{ADMIN}broker_url/change/")
    assert page.status_code == 200 and "hush" not in page.text
    verbs = AuditEntry.objects.order_by("id").values_list("verb", "object_id")
    assert list(verbs)[2:] == [("update", "sweep_seconds"), ("update", "pack_size"), ("reset", "pack_size")]
