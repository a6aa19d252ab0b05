"""Keys for stored values: several at once, the newest encrypts, and everything moves to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from access_app import encryption, rotation, runtime_services
from access_app.actors import system_actor
from access_app.models import RuntimeSetting, Secret
from tasks_app.services import secrets

OLD, NEW, OTHER = "o" * 20 + "0123456789abcdef", "n" * 20 + "0123456789abcdef", "x" * 20 + "0123456789abcdef"
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def make(project, name: str, value: str = "correct horse") -> Secret:
    return secrets.create(system_actor(), {"project": project, "name": name, "value": value}, now=NOW)


def rotated(*options: str) -> dict[str, object]:
    out = StringIO()
    call_command("rotate_keys", "--json", *options, stdout=out)
    answer: dict[str, object] = json.loads(out.getvalue())
    return answer


def test_what_was_encrypted_before_there_were_keys_for_it_stays_readable(settings):
    settings.SCHEDULER_ENCRYPTION_KEYS = []
    with_secret_key = encryption.encrypt("text")
    without_id = with_secret_key.partition(":")[2]
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW]
    assert encryption.decrypt(with_secret_key) == encryption.decrypt(without_id) == "text"
    assert encryption.key_id_of(without_id) == ""
    assert encryption.key_id_of(encryption.encrypt("text")) == encryption.newest_key_id()
    assert encryption.key_id_of(with_secret_key) != encryption.newest_key_id()


def test_the_id_of_a_key_tells_keys_apart_and_nothing_of_them(settings):
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW, OLD]
    ids = [key.id for key in encryption.known_keys()]
    assert len(set(ids)) == len(ids) >= 3 and [key.for_values for key in encryption.known_keys()][:3] == [
        True,
        True,
        False,
    ]
    assert not any(id in NEW or id in OLD for id in ids)


@pytest.mark.parametrize("kept", ["", "text", "a:b", None, 5, {}])
def test_what_is_no_encrypted_value_is_unreadable_and_no_accident(kept):
    with pytest.raises(encryption.Unreadable, match="not known"):
        encryption.decrypt(kept)


def test_everything_moves_to_the_newest_key_and_what_it_held_stays(settings, project, any_broker):
    settings.SCHEDULER_ENCRYPTION_KEYS = [OLD]
    first = make(project, "ONE", "value one")
    runtime_services.change(system_actor(), {"broker_url": "amqp://me:hush@rabbit.example//"}, now=NOW)
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW, OLD]
    second = make(project, "TWO", "value two")
    new, old = (key.id for key in encryption.known_keys()[:2])
    assert rotated("--check")["renewed"] == {"secrets": 0, "settings": 0}
    answer = rotated()
    assert answer["renewed"] == {"secrets": 1, "settings": 1} and answer["unreadable"] == []
    keys = {key["id"]: key["values"] for key in answer["keys"]}  # type: ignore[attr-defined]
    assert keys[new] == 3 and keys[old] == 0
    assert rotated()["renewed"] == {"secrets": 0, "settings": 0}, "repeated, it does nothing"
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW]
    assert [encryption.decrypt(secret.sealed) for secret in Secret.objects.order_by("name")] == [
        "value one",
        "value two",
    ]
    assert "hush" in encryption.decrypt(RuntimeSetting.objects.get().value)
    after = Secret.objects.get(pk=first.pk)
    assert (after.version, after.updated_at, after.key_id) == (1, NOW, new)
    assert Secret.objects.get(pk=second.pk).sealed == second.sealed


def test_many_are_moved_in_batches(settings, project, monkeypatch):
    monkeypatch.setattr(rotation, "BATCH", 3)
    settings.SCHEDULER_ENCRYPTION_KEYS = [OLD]
    for n in range(8):
        make(project, f"S{n}", f"value {n}")
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW, OLD]
    report = rotation.Report()
    assert list(rotation.rotate(report)) == [3, 6, 8]
    assert report.renewed == {"secrets": 8}


def test_an_edit_meanwhile_wins(settings, project, monkeypatch):
    settings.SCHEDULER_ENCRYPTION_KEYS = [OLD]
    secret = make(project, "ONE")
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW, OLD]
    renewed = encryption.renewed

    def edited_meanwhile(kept: str) -> str:
        secrets.update(system_actor(), secret, {"value": "a later value"}, now=NOW)
        return renewed(kept)

    monkeypatch.setattr(encryption, "renewed", edited_meanwhile)
    assert rotated()["renewed"] == {"secrets": 0, "settings": 0}
    assert encryption.decrypt(Secret.objects.get().sealed) == "a later value"


def test_what_no_key_reads_is_named_and_the_rest_is_moved_all_the_same(settings, project):
    settings.SCHEDULER_ENCRYPTION_KEYS = [OTHER]
    make(project, "LOST")
    settings.SCHEDULER_ENCRYPTION_KEYS = [OLD]
    make(project, "ONE")
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW, OLD]
    out = StringIO()
    with pytest.raises(CommandError, match="analytics/LOST") as failure:
        call_command("rotate_keys", "--json", stdout=out)
    assert failure.value.returncode == 1
    answer = json.loads(out.getvalue())
    assert answer["unreadable"] == ["secrets/analytics/LOST"] and answer["renewed"]["secrets"] == 1
    assert Secret.objects.filter(key_id=encryption.newest_key_id()).count() == 1


def test_the_command_says_which_key_may_go(settings, project):
    settings.SCHEDULER_ENCRYPTION_KEYS = [OLD]
    make(project, "ONE")
    settings.SCHEDULER_ENCRYPTION_KEYS = [NEW, OLD]
    new, old = (key.id for key in encryption.known_keys()[:2])
    out = StringIO()
    call_command("rotate_keys", "--check", stdout=out)
    assert (
        f"Key {old}: still needed; values: 1." in out.getvalue()
        and f"Key {new}: the newest; values: 0." in out.getvalue()
    )
    out = StringIO()
    call_command("rotate_keys", stdout=out)
    assert "Encrypted anew: 1 secrets, 0 settings." in out.getvalue()
    assert f"Key {old}: not needed for any value." in out.getvalue()


@pytest.mark.parametrize(
    ("keys", "production", "id"),
    [
        ([], False, None),
        ([], True, "scheduler.E020"),
        ([NEW], True, None),
        (["short"], False, "scheduler.E021"),
        (["a" * 40], False, "scheduler.E021"),
        ([NEW, NEW], False, "scheduler.E022"),
    ],
)
def test_keys_that_can_be_guessed_or_are_missing_are_named_before_anything_starts(settings, keys, production, id):
    from monitoring_app.checks_of_secrets import encryption_keys

    settings.SCHEDULER_ENCRYPTION_KEYS, settings.PRODUCTION = keys, production
    assert [found.id for found in encryption_keys()] == ([] if id is None else [id])
