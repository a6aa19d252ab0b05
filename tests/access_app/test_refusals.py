"""Refusals stand in the audit trail, and no flood of them fills it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError
from django.test import Client, RequestFactory

from access_app import audit_chain, refusals
from access_app.models import AuditEntry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def asked(address="203.0.113.9"):
    return RequestFactory().get("/", REMOTE_ADDR=address)


def test_one_entry_a_minute_for_the_same_refusal_and_the_next_one_says_how_many_were_left_out(db):
    for second in range(60):
        refusals.note(asked(), "unknown_key", now=NOW + timedelta(seconds=second))
    assert AuditEntry.objects.count() == 1
    refusals.note(asked(), "unknown_key", now=NOW + timedelta(seconds=60))
    assert list(AuditEntry.objects.order_by("id").values_list("after", flat=True)) == [
        {"reason": "unknown_key"},
        {"reason": "unknown_key", "others_left_out": 59},
    ]


def test_another_reason_address_or_subject_is_another_refusal(db):
    refusals.note(asked(), "unknown_key", now=NOW)
    refusals.note(asked(), "expired_key", now=NOW)
    refusals.note(asked("203.0.113.10"), "unknown_key", now=NOW)
    refusals.note(asked(), "unknown_key", now=NOW, subject="token")
    # Names that anybody can make up, and addresses of one machine, are not.
    refusals.note(asked(), "unknown_key", now=NOW, name="made up")
    refusals.note(asked("2001:db8::1"), "unknown_key", now=NOW)
    refusals.note(asked("2001:db8::2"), "unknown_key", now=NOW)
    assert AuditEntry.objects.count() == 5


def test_a_flood_from_everywhere_writes_no_more_than_its_ration_and_hides_no_refusal_of_somebody_known(db, alice):
    before = AuditEntry.objects.count()
    for place in range(500):
        refusals.note(asked(f"203.0.{place % 250}.{place // 250}"), "unknown_key", now=NOW)
    assert AuditEntry.objects.count() - before == refusals.MOST_A_MINUTE
    refusals.note(asked(), "revoked", now=NOW, subject="token", user=alice)
    entry = AuditEntry.objects.latest("id")
    assert (entry.actor, entry.user_id, entry.object_type) == ("user alice", alice.pk, "token")


def test_a_thousand_wrong_keys_are_a_single_write(db, django_assert_max_num_queries):
    client = Client(headers={"X-API-Key": "dts_" + "0" * 64})
    client.get("/api/tasks")
    entries = AuditEntry.objects.count()
    # Each look for the key is one read, and nothing else.
    with django_assert_max_num_queries(50):
        for _ in range(50):
            assert client.get("/api/tasks").status_code == 401
    assert AuditEntry.objects.count() == entries == 1


def test_a_refusal_stays_a_refusal_where_the_trail_cannot_be_written(db, monkeypatch):
    def fail(*_arguments, **_options):
        raise DatabaseError("full")

    monkeypatch.setattr("access_app.audit.append_refusal", fail)
    assert Client(headers={"X-API-Key": "dts_" + "0" * 64}).get("/api/tasks").status_code == 401


@pytest.mark.usefixtures("db")
def test_refusals_are_sealed_as_all_other_entries_are():
    refusals.note(asked(), "unknown_key", now=NOW)
    assert audit_chain.seal(NOW) == 1
    assert not [one for one in audit_chain.breaks() if isinstance(one, audit_chain.Break)]
