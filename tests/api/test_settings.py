"""Runtime settings over the API."""

from __future__ import annotations

import pytest

from access_app import runtime
from access_app.models import RuntimeSetting
from scripts.probes import RABBITMQ
from tests.api.client import is_problem
from workers_app import brokers
from workers_app.runtime_settings import BROKER_URL

REFUSAL_OF = brokers.refusal_of

pytestmark = pytest.mark.usefixtures("any_broker")
SHAPE = {
    "name", "value", "default", "is_default", "kind", "least", "most", "label", "help", "updated_at", "updated_by",
}  # fmt: skip


@pytest.fixture
def root(api, root_user):
    return api(root_user)


def by_name(response):
    assert response.status_code == 200, response.content
    return {row["name"]: row for row in response.json()["results"]}


def test_settings_are_read_changed_and_given_back_their_defaults(root):
    rows = by_name(root.get("/api/settings"))
    assert all(row.keys() == SHAPE for row in rows.values())
    assert list(rows) == sorted(rows) and {"broker_url", "sweep_seconds", "pack_size"} <= rows.keys()
    sweep = rows["sweep_seconds"]
    assert (sweep["value"], sweep["is_default"], sweep["kind"], sweep["least"]) == (5.0, True, "number", 1.0)
    changed = by_name(root.patch("/api/settings", {"sweep_seconds": 12, "broker_url": "redis://:hush@cache/1"}))
    assert (changed["sweep_seconds"]["value"], changed["sweep_seconds"]["default"]) == (12.0, 5.0)
    assert changed["broker_url"]["value"] == "redis://:********@cache/1"
    assert changed["broker_url"]["updated_by"].endswith("root") and changed["broker_url"]["updated_at"].endswith("Z")
    assert by_name(root.patch("/api/settings", {"sweep_seconds": None}))["sweep_seconds"] == sweep
    assert "hush" not in root.get("/api/settings").content.decode()
    audit = root.get("/api/audit?object_type=runtimesetting").json()["results"]
    assert [entry["verb"] for entry in audit] == ["reset", "update", "update"]
    assert "hush" not in str(audit)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sweep_seconds": "5"}, "sweep_seconds"),
        ({"sweep_seconds": True}, "sweep_seconds"),
        ({"sweep_seconds": 0}, "sweep_seconds"),
        ({"pack_size": 5.5}, "pack_size"),
        ({"broker_url": "memory://elsewhere/"}, "broker_url"),
        ({"broker_url": ["amqp://host//"]}, "broker_url"),
        ({"sweep": 5}, "sweep"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(root, body, field):
    is_problem(root.patch("/api/settings", {"drain_seconds": 9} | body), 400, field)
    assert not RuntimeSetting.objects.exists()


def test_nobody_below_an_administrator_of_the_installation_gets_in(api, alice, root_user):
    for client in (api(alice), api(alice, role="admin")):
        is_problem(client.get("/api/settings"), 403)
        is_problem(client.patch("/api/settings", {"pack_size": 5}), 403)
    reader = api(root_user, role="viewer")
    assert reader.get("/api/settings").status_code == 200
    is_problem(reader.patch("/api/settings", {"pack_size": 5}), 403)
    assert not RuntimeSetting.objects.exists()


@pytest.mark.rabbitmq
def test_a_broker_that_refuses_us_is_not_taken_the_one_before_stays_and_its_words_are_shown(root, monkeypatch):
    monkeypatch.setattr(brokers, "refusal_of", REFUSAL_OF)
    good = RABBITMQ.url()
    assert by_name(root.patch("/api/settings", {"broker_url": good}))["broker_url"]["is_default"] is False
    bad = good.replace("//guest:guest@", "//guest:wrong@")
    answer = is_problem(root.patch("/api/settings", {"broker_url": bad, "pack_size": 5}), 400, "broker_url")
    assert "ACCESS_REFUSED" in str(answer["errors"]["broker_url"]) and "wrong" not in str(answer)
    runtime.refresh()
    assert BROKER_URL.value == good
    assert by_name(root.get("/api/settings"))["pack_size"]["is_default"] is True
