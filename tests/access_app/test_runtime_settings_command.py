"""`manage.py runtime_settings` shows what can be tuned and changes it through the service."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from access_app.models import AuditEntry, RuntimeSetting

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("any_broker")]
SECRET = "amqp://me:hush@rabbit.example:5672//"


def call(*arguments: str) -> str:
    out = io.StringIO()
    call_command("runtime_settings", *arguments, stdout=out)
    return out.getvalue()


def rows(*arguments: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(call(*arguments, "--json"))}


def test_settings_are_shown_set_and_given_back_their_defaults():
    assert "pack_size" in call() and "100  (default)" in call()
    changed = rows("pack_size=7", "sweep_seconds=12.5")
    assert (changed["pack_size"]["value"], changed["sweep_seconds"]["value"]) == (7, 12.5)
    assert changed["pack_size"]["updated_by"].startswith("command ") and changed["pack_size"]["updated_at"].endswith(
        "Z"
    )
    assert "(set by command " in call()
    assert rows("--reset", "pack_size", "--reset", "sweep_seconds")["pack_size"]["is_default"] is True
    assert AuditEntry.objects.count() == 4


def test_a_password_comes_by_standard_input_and_is_never_printed(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(SECRET + "\n"))
    printed = call("--stdin", "broker_url")
    assert "amqp://me:********@rabbit.example:5672//" in printed and "hush" not in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pack_size"], "NAME=VALUE"),
        (["pack_size=many"], "whole number"),
        (["pack_size=0", "sweep_seconds=9"], "from 1 to 1000"),
        (["sweep_seconds=9", "no_such=1"], "no_such"),
        (["--reset", "no_such"], "no_such"),
        (["broker_url=memory://elsewhere/"], "same process"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_changed(arguments, words):
    with pytest.raises(CommandError, match=words) as refused:
        call(*arguments)
    assert refused.value.returncode == 2
    assert not RuntimeSetting.objects.exists()
