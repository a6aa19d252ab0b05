"""What browsers are told: whose pages may use the API, and what our own pages may load and do."""

from __future__ import annotations

import pytest
from django.test import Client

ORIGIN = "https://dashboard.example"


@pytest.fixture
def one_origin(settings):
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]


def preflight(origin: str, path: str = "/api/tasks"):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "x-api-key,if-match",
    }
    return Client().options(path, headers=headers)


def test_no_page_of_another_site_may_use_the_api_unless_it_is_named(db):
    assert "Access-Control-Allow-Origin" not in preflight(ORIGIN)
    assert "Access-Control-Allow-Origin" not in Client(headers={"Origin": ORIGIN}).get("/api/tasks")


def test_a_named_origin_may_use_the_api_with_a_key_and_never_with_a_session(one_origin, db):
    answer = preflight(ORIGIN)
    assert answer["Access-Control-Allow-Origin"] == ORIGIN
    assert {"x-api-key", "if-match"} <= set(answer["Access-Control-Allow-Headers"].split(", "))
    assert "Access-Control-Allow-Credentials" not in answer
    shown = Client(headers={"Origin": ORIGIN}).get("/api/tasks")
    assert shown.status_code == 401 and "RateLimit-Remaining" in shown["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://dashboard.example", f"{ORIGIN}.evil.example", "null"]
)
def test_another_origin_is_told_nothing(one_origin, db, origin):
    assert "Access-Control-Allow-Origin" not in preflight(origin)


def test_the_console_is_for_no_other_origin(one_origin, db):
    for path in ("/", "/sign-in/", "/admin/"):
        assert "Access-Control-Allow-Origin" not in preflight(ORIGIN, path)


@pytest.mark.parametrize("path", ["/sign-in/", "/tasks/", "/keys/", "/admin/", "/admin/access_app/apikey/", "/nowhere"])
def test_every_page_also_of_the_admin_has_a_policy_without_inline_scripts_or_frames(client, root_user, path):
    if path != "/sign-in/":
        client.force_login(root_user)
    page = client.get(path)
    policy = page["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert page["X-Frame-Options"] == "DENY" and page["X-Content-Type-Options"] == "nosniff"
    assert page["Cross-Origin-Opener-Policy"] == "same-origin" and "camera=()" in page["Permissions-Policy"]
    assert page["Referrer-Policy"] == "same-origin"
