"""`manage.py create_api_key` prints a key that works, alone."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from access_app.models import ApiKey, AuditEntry


def make(*arguments):
    out = StringIO()
    call_command("create_api_key", *arguments, stdout=out)
    return out.getvalue()


def test_the_key_alone_is_printed_and_it_works(root_user):
    printed = make("--user", "root", "--name", "bar", "--role", "admin")
    assert printed.startswith("dts_") and printed.count("\n") == 1 and printed.endswith("\n")
    assert Client(headers={"X-API-Key": printed.strip()}).get("/api/audit").status_code == 200
    key = ApiKey.objects.get()
    assert (key.name, key.role, key.expiry) == ("bar", "admin", None)
    entry = AuditEntry.objects.get()
    assert entry.verb == "create" and printed.strip() not in str(entry.after)


def test_without_a_role_it_may_look_only_and_with_days_it_ends(root_user):
    make("--user", "root", "--name", "bar", "--days", "7")
    key = ApiKey.objects.get()
    assert key.role == "viewer"
    assert timedelta(days=6, hours=23) < key.expiry - timezone.now() <= timedelta(days=7)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--user", "nobody", "--name", "bar"),
        ("--user", "root", "--name", ""),
        ("--user", "root", "--name", "x" * 101),
        ("--user", "root", "--name", "bar", "--days", "0"),
        ("--user", "root", "--name", "bar", "--days", "99999"),
        ("--user", "root", "--name", "bar", "--role", "god"),
    ],
)
def test_what_makes_no_sense_is_refused_and_no_key_is_made(root_user, arguments):
    with pytest.raises(CommandError):
        make(*arguments)
    assert not ApiKey.objects.exists()


def test_an_inactive_user_gets_no_key(root_user):
    root_user.is_active = False
    root_user.save(update_fields=["is_active"])
    with pytest.raises(CommandError):
        make("--user", "root", "--name", "bar")
