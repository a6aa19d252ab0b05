"""Two who hold one refresh token and use it at the same moment."""

from __future__ import annotations

import jwt
import pytest
from django.utils import timezone

from access_app import tokens
from access_app.models import AuditEntry, TokenFamily

pytestmark = pytest.mark.postgresql


def test_of_two_who_refresh_with_one_token_at_once_the_second_finds_it_spent_and_the_family_ends(
    second_connection, blocked, django_user_model
):
    user = django_user_model.objects.create_user("alice", password="correct horse battery")
    pair = tokens.sign_in(user, address=None, request_id="", now=timezone.now())
    other = tokens.sign_in(user, address=None, request_id="", now=timezone.now())
    # The first one has spent the token and not committed yet; the second one has read it as good.
    second_connection.execute(
        "UPDATE access_app_tokenfamily SET current = 'spent' WHERE current = %s",
        [jwt.decode(pair.refresh, options={"verify_signature": False})["jti"]],
    )

    def refresh() -> str:
        try:
            return tokens.refreshed(pair.refresh, now=timezone.now()).access
        except tokens.TokenRefused as error:
            return error.reason

    second = blocked(refresh)
    second_connection.commit()
    assert second.result(timeout=20) == "replayed"
    ended, going_on = TokenFamily.objects.order_by("created_at")
    assert (ended.revoked_why, going_on.revoked_at) == ("replayed", None)
    assert AuditEntry.objects.filter(verb="revoke").count() == 1
    assert tokens.refreshed(other.refresh, now=timezone.now()).refresh != other.refresh
