"""Runtime settings: typed, bounded, kept in the database, changed by administrators, each change in the audit trail."""

from __future__ import annotations

import pytest
from django.utils import timezone

from access_app import encryption, runtime, runtime_services
from access_app.actors import system_actor, user_actor
from access_app.errors import InvalidInput, PermissionRefused
from access_app.models import AuditEntry, RuntimeSetting
from dispatcher_app.runtime_settings import PACK_SIZE, SWEEP_SECONDS
from workers_app import brokers
from workers_app.runtime_settings import BROKER_URL

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("any_broker")]
SECRET = "amqp://me:hush@rabbit.example:5672//"
HIDDEN = "amqp://me:********@rabbit.example:5672//"


def change(**values: object) -> None:
    runtime_services.change(system_actor("test"), values, now=timezone.now())


def shown(name: str) -> runtime_services.Shown:
    return next(one for one in runtime_services.settings_visible_to(system_actor()) if one.setting.name == name)


def test_without_a_row_a_setting_is_what_the_environment_says(settings):
    settings.SCHEDULER_SWEEP_SECONDS = 7.0
    assert SWEEP_SECONDS.value == 7.0
    change(sweep_seconds=30)
    assert SWEEP_SECONDS.value == 30.0
    change(sweep_seconds=None)
    assert SWEEP_SECONDS.value == 7.0
    assert not RuntimeSetting.objects.exists()


def test_another_process_learns_of_a_change_by_reading_the_rows_in_one_statement(django_assert_num_queries):
    change(sweep_seconds=30, pack_size=5)
    runtime.forget()
    assert (SWEEP_SECONDS.value, PACK_SIZE.value) == (5.0, 100)
    with django_assert_num_queries(1):
        runtime.refresh()
    with django_assert_num_queries(0):
        assert (SWEEP_SECONDS.value, PACK_SIZE.value) == (30.0, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sweep_seconds", 0.5),
        ("sweep_seconds", 301),
        ("sweep_seconds", "5"),
        ("sweep_seconds", True),
        ("sweep_seconds", float("nan")),
        ("pack_size", 5.0),
        ("pack_size", 0),
        ("pack_size", 1001),
        ("broker_url", 5),
        ("broker_url", ""),
        ("broker_url", "carrier-pigeon://x"),
        ("broker_url", "memory://elsewhere/"),
        ("broker_url", "redis://localhost/jobs"),
        ("broker_url", HIDDEN),
        ("broker_url", "amqp://host/" + "x" * 1000),
        ("no_such_setting", 5),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_name_and_nothing_is_written(name, value):
    with pytest.raises(InvalidInput) as refused:
        change(**{"drain_seconds": 5, name: value})
    assert refused.value.errors.keys() == {name}
    assert not RuntimeSetting.objects.exists() and not AuditEntry.objects.exists()


def test_a_row_that_makes_no_sense_is_left_out_and_the_others_hold():
    rows = {"sweep_seconds": -5, "pack_size": "many", "broker_url": "not encrypted", "gone": 1, "drain_seconds": 9.0}
    for name, value in rows.items():
        RuntimeSetting.objects.create(name=name, value=value, updated_at=timezone.now(), updated_by="x")
    runtime.refresh()
    assert (SWEEP_SECONDS.value, PACK_SIZE.value, BROKER_URL.value) == (5.0, 100, "memory://localhost/")
    assert shown("drain_seconds").value == 9.0


def test_a_secret_is_encrypted_where_it_is_kept_and_hidden_where_it_is_shown():
    change(broker_url=SECRET)
    assert BROKER_URL.value == SECRET
    assert "hush" not in str(RuntimeSetting.objects.get().value)
    assert shown("broker_url").value == HIDDEN
    assert AuditEntry.objects.get().after == {"value": HIDDEN}


def test_a_secret_given_as_it_is_shown_stays_what_it_is():
    change(broker_url=SECRET)
    change(broker_url=HIDDEN, pack_size=7)
    assert (BROKER_URL.value, PACK_SIZE.value) == (SECRET, 7)
    assert [entry.object_id for entry in AuditEntry.objects.order_by("id")] == ["broker_url", "pack_size"]


def test_what_an_earlier_key_has_encrypted_is_read_while_that_key_is_known(settings):
    change(broker_url=SECRET)
    first, settings.SECRET_KEY = settings.SECRET_KEY, "the next key " * 5
    settings.SECRET_KEY_FALLBACKS = [first]
    runtime.refresh()
    assert BROKER_URL.value == SECRET
    settings.SECRET_KEY_FALLBACKS = []
    runtime.refresh()
    assert BROKER_URL.value == "memory://localhost/"
    assert shown("broker_url").row is not None
    with pytest.raises(encryption.Unreadable):
        encryption.decrypt(RuntimeSetting.objects.get().value)
    change(broker_url=None)
    assert not RuntimeSetting.objects.exists()


def test_every_change_has_its_entry_with_the_value_before_and_after(root_user):
    actor = user_actor(root_user)
    for value in (10, 20, None):
        runtime_services.change(actor, {"sweep_seconds": value}, now=timezone.now())
    runtime_services.change(actor, {"sweep_seconds": None}, now=timezone.now())
    entries = AuditEntry.objects.order_by("id").values_list("actor", "verb", "object_name", "before", "after")
    assert list(entries) == [
        ("user root", "update", "sweep_seconds", None, {"value": 10.0}),
        ("user root", "update", "sweep_seconds", {"value": 10.0}, {"value": 20.0}),
        ("user root", "reset", "sweep_seconds", {"value": 20.0}, None),
    ]


def test_only_administrators_of_the_installation_see_or_change_settings(alice):
    with pytest.raises(PermissionRefused):
        runtime_services.settings_visible_to(user_actor(alice))
    with pytest.raises(PermissionRefused):
        runtime_services.change(user_actor(alice), {"pack_size": 5}, now=timezone.now())
    assert not RuntimeSetting.objects.exists()


def test_a_value_that_cannot_be_used_now_is_refused_and_what_held_goes_on(monkeypatch):
    change(broker_url=SECRET)
    asked: list[str] = []

    def refuse(url: str) -> str:
        asked.append(url)
        return "It says no."

    monkeypatch.setattr(brokers, "refusal_of", refuse)
    with pytest.raises(InvalidInput) as refused:
        change(broker_url="amqp://other.example//", pack_size=5)
    assert (refused.value.errors, asked) == ({"broker_url": ["It says no."]}, ["amqp://other.example//"])
    runtime.refresh()
    assert (BROKER_URL.value, PACK_SIZE.value) == (SECRET, 100)
    assert AuditEntry.objects.count() == 1
    change(pack_size=6)
    with pytest.raises(InvalidInput):
        change(broker_url="amqp://other.example//", pack_size=0)
    change(broker_url=None)
    assert len(asked) == 1, "neither a value that stays, nor one beside a mistake, nor a default is asked about"
