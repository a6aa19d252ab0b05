"""The chain through the audit trail: whatever is changed, taken out or put in, the first break is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from access_app import audit, audit_chain
from access_app.actors import system_actor, user_actor
from access_app.audit_chain import Break
from access_app.models import AuditAnchor, AuditEntry, AuditHead, AuditLink, AuditPending
from tasks_app.models import Project

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def write(count: int = 1, *, actor: Any = None) -> list[int]:
    """Append entries; their ids."""
    project = Project.objects.get(name="default")
    before = set(AuditEntry.objects.values_list("pk", flat=True))
    for n in range(count):
        audit.append(actor or system_actor(), "edit", project, now=NOW, before={"n": n}, after={"n": n + 0.5, "ü": []})
    return sorted(set(AuditEntry.objects.values_list("pk", flat=True)) - before)


def sealed(count: int) -> list[int]:
    ids = write(count)
    assert audit_chain.seal(NOW) == count
    return ids


def tampered(statement: str, *values: Any) -> None:
    """Execute a statement as somebody would who owns the database."""
    tables = ("access_app_auditentry", "access_app_auditlink", "access_app_auditanchor")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement, values)
        if connection.vendor == "postgresql":
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def found(anchors: dict[int, str] | None = None) -> Break | None:
    last = list(audit_chain.breaks(anchors))[-1:]
    return last[0] if last and isinstance(last[0], Break) else None


def where(broken: Break | None) -> tuple[int, int | None] | None:
    return None if broken is None else (broken.sequence, broken.entry)


# Sealing


def test_entries_are_sealed_in_the_order_in_which_they_were_written():
    ids = sealed(5)
    assert list(AuditLink.objects.order_by("sequence").values_list("sequence", "entry_id")) == list(
        zip(range(1, 6), ids, strict=True)
    )
    assert not AuditPending.objects.exists() and found() is None
    more = sealed(2)
    assert list(AuditLink.objects.filter(sequence__gt=5).values_list("entry_id", flat=True)) == more
    assert audit_chain.seal(NOW) == 0 and found() is None


def test_an_entry_of_a_change_that_is_rolled_back_is_not_to_be_sealed():
    with transaction.atomic():
        write()
        transaction.set_rollback(True)
    assert audit_chain.seal(NOW) == 0 and found() is None


def test_what_commits_late_is_sealed_late_and_the_chain_holds():
    first, second, third = write(3)
    AuditPending.objects.filter(pk=first).delete()
    assert audit_chain.seal(NOW) == 2
    AuditPending.objects.create(entry_id=first)
    assert audit_chain.seal(NOW) == 1
    assert list(AuditLink.objects.order_by("sequence").values_list("entry_id", flat=True)) == [second, third, first]
    assert found() is None


def test_an_entry_stays_as_it_is_when_its_account_is_deleted():
    user = get_user_model().objects.create_user("carol")
    write(actor=user_actor(user))
    audit_chain.seal(NOW)
    user.delete()
    assert found() is None and AuditEntry.objects.get().actor == "user carol"


def test_sealing_takes_as_many_statements_for_many_entries_as_for_one():
    sealed(1)
    counts = []
    for number in (1, 40):
        write(number)
        with CaptureQueriesContext(connection) as queries:
            assert audit_chain.seal(NOW) == number
        counts.append(len(queries))
    assert counts[0] == counts[1]


# Breaks


def test_an_entry_that_was_changed_is_named():
    ids = sealed(5)
    tampered("UPDATE access_app_auditentry SET object_name = 'other' WHERE id = %s", ids[2])
    assert where(found()) == (3, ids[2])


def test_values_before_and_after_and_the_time_are_part_of_it():
    ids = sealed(3)
    tampered("UPDATE access_app_auditentry SET at = %s WHERE id = %s", NOW + timedelta(microseconds=1), ids[1])
    assert where(found()) == (2, ids[1])
    tampered("UPDATE access_app_auditentry SET before = %s WHERE id = %s", json.dumps({"n": 1}), ids[0])
    assert where(found()) == (1, ids[0])


def test_an_entry_that_was_deleted_is_named():
    ids = sealed(4)
    tampered("DELETE FROM access_app_auditentry WHERE id = %s", ids[1])
    assert where(found()) == (2, ids[1])


def test_an_entry_that_was_cut_out_with_its_link_is_missed():
    ids = sealed(4)
    tampered("DELETE FROM access_app_auditentry WHERE id = %s", ids[1])
    tampered("DELETE FROM access_app_auditlink WHERE entry_id = %s", ids[1])
    assert where(found()) == (2, None)


def test_a_chain_that_is_closed_again_behind_a_cut_is_not_ours():
    """Whoever may write to the database can make every link anew, but cannot sign the end."""
    sealed(4)
    tampered("DELETE FROM access_app_auditanchor")
    cut = AuditEntry.objects.order_by("pk")[1].pk
    tampered("DELETE FROM access_app_auditentry WHERE id = %s", cut)
    head = AuditHead.objects.get()
    kept = AuditEntry.objects.order_by("pk").values_list("pk", flat=True)
    tampered("DELETE FROM access_app_auditlink")
    for pk in kept:
        AuditPending.objects.create(entry_id=pk)
    AuditHead.objects.update(sequence=0, chain="", anchored_sequence=0, anchored_at=NOW)
    audit_chain.seal(NOW)
    assert found() is None, "with the key it is a chain like any other"
    AuditHead.objects.update(signature=head.signature)
    assert where(found()) == (3, None)


def test_an_end_that_was_cut_off_is_missed():
    ids = sealed(5)
    tampered("DELETE FROM access_app_auditentry WHERE id = %s", ids[-1])
    tampered("DELETE FROM access_app_auditlink WHERE entry_id = %s", ids[-1])
    assert where(found()) == (5, None)


def test_an_end_that_was_cut_off_with_its_head_is_missed_by_an_anchor_from_the_log():
    ids = sealed(3)
    head = AuditHead.objects.get()
    more = sealed(2)
    kept = AuditLink.objects.get(sequence=5)
    AuditHead.objects.update(sequence=head.sequence, chain=head.chain, signature=head.signature)
    assert where(found()) == (4, None), "the links beyond the signed end are still there"
    tampered("DELETE FROM access_app_auditentry WHERE id IN (%s, %s)", *more)
    tampered("DELETE FROM access_app_auditlink WHERE sequence > 3")
    assert found() is None and len(ids) == 3
    assert where(found({5: kept.chain})) == (4, None)


def test_a_head_that_was_taken_away_is_missed():
    sealed(2)
    AuditHead.objects.all().delete()
    assert where(found()) == (1, None)


def test_an_entry_that_was_put_in_is_named():
    sealed(2)
    (forged,) = write()
    AuditPending.objects.all().delete()
    assert where(found()) == (3, forged)


def test_an_entry_that_was_deleted_before_it_was_sealed_is_named():
    sealed(1)
    gone, stays = write(2)
    tampered("DELETE FROM access_app_auditentry WHERE id = %s", gone)
    assert audit_chain.seal(NOW, most=1) == 1, "what is gone keeps nothing behind it waiting"
    assert AuditLink.objects.filter(entry_id=stays).exists()
    assert where(found()) == (3, gone)


def test_a_link_that_was_changed_is_named():
    ids = sealed(3)
    tampered("UPDATE access_app_auditlink SET digest = %s WHERE sequence = 2", "0" * 64)
    assert where(found()) == (2, ids[1])


# Anchors


def test_anchors_are_kept_by_time_and_by_number(monkeypatch):
    monkeypatch.setattr(audit_chain, "ANCHOR_LINKS", 3)
    sealed(1)
    assert AuditAnchor.objects.count() == 1, "the first link is one"
    sealed(2)
    assert AuditAnchor.objects.count() == 1
    sealed(1)
    assert AuditAnchor.objects.count() == 2
    write(1)
    audit_chain.seal(NOW + audit_chain.ANCHOR_EVERY)
    assert list(AuditAnchor.objects.order_by("sequence").values_list("sequence", flat=True)) == [1, 4, 5]
    audit_chain.seal(NOW + 3 * audit_chain.ANCHOR_EVERY)
    assert AuditAnchor.objects.count() == 3, "where nothing was added there is nothing to anchor"


def test_an_anchor_whose_signature_does_not_hold_is_named():
    ids = sealed(2)
    tampered("UPDATE access_app_auditanchor SET signature = %s", "0" * 64)
    assert where(found()) == (2, ids[1])


def test_an_old_secret_key_still_verifies_what_it_signed(settings):
    sealed(2)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another-" + "k" * 50
    assert found() is not None
    settings.SECRET_KEY_FALLBACKS = [old]
    assert found() is None


# The database


@pytest.mark.postgresql
@pytest.mark.parametrize("table", ["auditentry", "auditlink", "auditanchor"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {} = {}", "TRUNCATE {} CASCADE"])
def test_the_database_refuses_to_change_the_trail(table, statement):
    sealed(1)
    name = f"access_app_{table}"
    column = "verb" if table == "auditentry" else "chain"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(name, column, column))
    assert found() is None


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_two_who_seal_at_once_do_not_wait_for_each_other(second_connection):
    sealed(1)
    write(1)
    second_connection.execute("SELECT * FROM access_app_audithead FOR UPDATE")
    assert audit_chain.seal(NOW) == 0
    second_connection.rollback()
    assert audit_chain.seal(NOW) == 1 and found() is None


# The command


def verify(*arguments: str) -> str:
    out = StringIO()
    call_command("verify_audit", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_the_command_seals_what_is_left_and_says_that_the_trail_holds():
    assert verify() == "The audit trail holds: 0 links.\n"
    write(2)
    assert verify() == "The audit trail holds: 2 links.\n"
    assert json.loads(verify("--json")) == {"links": 2, "holds": True, "broken": None}


def test_the_command_names_the_link_and_the_entry_and_fails():
    ids = sealed(3)
    tampered("UPDATE access_app_auditentry SET actor = 'nobody' WHERE id = %s", ids[1])
    with pytest.raises(CommandError, match=rf"link 2\. The entry was changed\. Entry {ids[1]}: nobody edit") as failed:
        verify()
    assert failed.value.returncode == 1


def test_the_command_takes_anchors_of_the_log(caplog):
    sealed(2)
    anchor = AuditAnchor.objects.get()
    assert "holds" in verify("--anchor", f"{anchor.sequence}:{anchor.chain}")
    with pytest.raises(CommandError, match="not that of the anchor given"):
        verify("--anchor", f"1:{anchor.chain}")
    with pytest.raises(CommandError, match="64 hexadecimal digits"):
        verify("--anchor", "1")
