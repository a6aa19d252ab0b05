"""Guessing passwords: ten tries a minute, then a quarter of an hour without one, on every door."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from axes.models import AccessAttempt
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse

from access_app import rates
from access_app.models import AuditEntry, RateCount
from tests.api.client import is_problem

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def clock(db):
    with time_machine.travel("2026-03-01T12:00:00Z", tick=False) as traveller:
        yield traveller


def over_the_api(name: str, password: str, address: str = "203.0.113.9"):
    body = {"username": name, "password": password}
    return Client(REMOTE_ADDR=address).post("/api/auth/token", body, content_type="application/json")


def at_the_console(name: str, password: str, address: str = "203.0.113.9"):
    return Client(REMOTE_ADDR=address).post("/sign-in/", {"username": name, "password": password})


def fail(clock, times: int, name: str = "alice", door=over_the_api) -> list[int]:
    """So many failures, slowly enough for the limit of a minute."""
    codes = []
    for _ in range(times):
        codes.append(door(name, "wrong").status_code)
        clock.shift(timedelta(seconds=15))
    return codes


def test_ten_failures_lock_the_user_out_at_that_address_on_every_door_and_nobody_else(clock, alice, bob):
    assert fail(clock, 10) == [401] * 9 + [429]
    refused = over_the_api("alice", PASSWORD)
    assert is_problem(refused, 429)["code"] == "locked_out"
    assert int(refused["Retry-After"]) == 15 * 60 - 15
    page = at_the_console("alice", PASSWORD)
    assert page.status_code == 429 and "try again in 15 minutes" in page.text and "Retry-After" in page
    assert over_the_api("bob", PASSWORD).status_code == 200
    assert over_the_api("alice", PASSWORD, "203.0.113.10").status_code == 200
    reasons = list(AuditEntry.objects.filter(verb="refused").values_list("after__reason", flat=True))
    assert "locked_out" in reasons and "wrong_password" in reasons


def test_failures_at_the_console_and_over_the_api_are_counted_together(clock, alice):
    assert fail(clock, 5) == [401] * 5
    assert fail(clock, 5, door=at_the_console) == [200] * 4 + [429]
    assert over_the_api("alice", PASSWORD).status_code == 429


def test_a_lock_out_ends_by_itself_and_trying_does_not_make_it_longer(clock, alice):
    fail(clock, 10)
    clock.shift(timedelta(minutes=14))
    assert over_the_api("alice", PASSWORD).status_code == 429
    clock.shift(timedelta(seconds=46))
    assert over_the_api("alice", PASSWORD).status_code == 200


def test_a_sign_in_that_goes_well_forgets_the_failures_before(clock, alice):
    fail(clock, 9)
    assert over_the_api("alice", PASSWORD).status_code == 200
    assert fail(clock, 9) == [401] * 9


def test_a_forged_header_is_no_other_address(clock, alice):
    fail(clock, 10)
    body = {"username": "alice", "password": PASSWORD}
    forged = Client(REMOTE_ADDR="203.0.113.9", headers={"X-Forwarded-For": "198.51.100.1"})
    assert forged.post("/api/auth/token", body, content_type="application/json").status_code == 429


def test_a_name_that_nobody_has_is_locked_out_alike(clock):
    assert fail(clock, 10, name="nobody") == [401] * 9 + [429]


def test_ten_sign_ins_a_minute_pass_and_then_the_answer_says_when(alice, monkeypatch):
    monkeypatch.setattr(rates, "SECONDS", 10**9)
    assert [over_the_api("alice", PASSWORD).status_code for _ in range(10)] == [200] * 10
    refused = over_the_api("alice", PASSWORD)
    assert is_problem(refused, 429)["code"] == "rate_limited" and int(refused["Retry-After"]) > 0
    rates.forget()
    assert at_the_console("alice", PASSWORD).status_code == 429
    assert over_the_api("alice", PASSWORD, "203.0.113.10").status_code == 200


def test_many_names_from_one_address_write_no_more_than_its_own_limit(monkeypatch):
    monkeypatch.setattr(rates, "SECONDS", 10**9)
    codes = [over_the_api(f"name {number}", "wrong", f"2001:db8::{number:x}").status_code for number in range(120)]
    assert codes == [401] * 100 + [429] * 20
    assert AccessAttempt.objects.count() == 100 and RateCount.objects.count() <= 102
    assert AuditEntry.objects.count() == 1


def test_no_password_is_kept_with_a_failure(clock, alice):
    at_the_console("alice", "a secret that was nearly right")
    kept = AccessAttempt.objects.values().get()
    assert "nearly" not in str(kept) and kept["username"] == "alice"


def test_the_admin_has_no_sign_in_of_its_own(client, alice):
    answer = client.post("/admin/login/?next=/admin/", {"username": "alice", "password": PASSWORD})
    assert answer["Location"] == "/sign-in/?next=%2Fadmin%2F" and "_auth_user_id" not in client.session
    client.force_login(alice)
    assert client.get("/admin/", follow=True).status_code == 403


# Releasing


def test_an_administrator_releases_a_user_by_a_command_and_it_is_audited(clock, alice, bob):
    fail(clock, 10)
    fail(clock, 3, name="bob")
    out = StringIO()
    call_command("release_sign_in", user="alice", stdout=out)
    assert "alice may sign in again" in out.getvalue()
    assert over_the_api("alice", PASSWORD).status_code == 200
    assert list(AccessAttempt.objects.values_list("username", flat=True)) == ["bob"]
    assert AuditEntry.objects.get(verb="release_sign_in").object_name == "alice"
    with pytest.raises(CommandError, match="alice"):
        call_command("release_sign_in", user="alice")


def test_an_administrator_releases_a_user_in_the_admin_and_nobody_else_may(clock, alice, root_user):
    fail(clock, 10)
    chosen = {"action": "let_in_again", "_selected_action": [AccessAttempt.objects.get().pk]}
    page = reverse("admin:axes_accessattempt_changelist")
    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    for user, status in ((alice, 403), (root_user, 302)):
        client = Client()
        client.force_login(user)
        assert client.post(page, chosen).status_code == status
        assert AccessAttempt.objects.exists() == (status == 403)
    assert over_the_api("alice", PASSWORD).status_code == 200
