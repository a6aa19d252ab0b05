"""Settings that make no sense stop the start with a sentence that names the variable."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from monitoring_app import checks
from scheduler_site import env
from scripts.probes import POSTGRESQL, libpq_url

ROOT = Path(__file__).resolve().parent.parent


def check(**variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SCHEDULER_", "CELERY_"))}
    command = [sys.executable, "manage.py", "check"]
    return subprocess.run(
        command, cwd=ROOT, env=inherited | variables, capture_output=True, text=True, check=False, timeout=60
    )


def test_address_ranges_are_read_at_start_and_not_at_the_first_request(monkeypatch):
    monkeypatch.setenv("SCHEDULER_HTTP_ALLOW", "10.1.0.0/16,fd00::/8")
    assert env.networks("SCHEDULER_HTTP_ALLOW") == [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    monkeypatch.setenv("SCHEDULER_HTTP_ALLOW", "10.1.0.0/16,intranet")
    with pytest.raises(ImproperlyConfigured, match=r"SCHEDULER_HTTP_ALLOW.*intranet"):
        env.networks("SCHEDULER_HTTP_ALLOW")


def test_connections_of_sql_runs_have_the_name_that_their_variable_ends_in(monkeypatch, tmp_path):
    (tmp_path / "url").write_text("sqlite:////srv/shop.sqlite3\n")
    monkeypatch.setenv("SHOP_SQL_REPORTS", "postgres://one:word@db.example/reports")
    monkeypatch.setenv("SHOP_SQL_STOCK_FILE", str(tmp_path / "url"))
    assert env.sql_connections("SHOP_SQL_") == {
        "reports": "postgres://one:word@db.example/reports",
        "stock": "sqlite:////srv/shop.sqlite3",
    }
    monkeypatch.setenv("SHOP_SQL_OLD", "mysql://one:word@db.example/old")
    with pytest.raises(ImproperlyConfigured, match=r"^SHOP_SQL_OLD must begin with") as refused:
        env.sql_connections("SHOP_SQL_")
    assert "word" not in str(refused.value)


def test_postgresql_does_not_compile_statements_unless_the_address_says_so(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://one@db.example/jobs")
    assert "-c jit=off" in env.database("DATABASE_URL", "")["OPTIONS"]["options"]
    monkeypatch.setenv("DATABASE_URL", "postgres://one@db.example/jobs?options=-c%20jit%3Don")
    assert env.database("DATABASE_URL", "")["OPTIONS"]["options"] == "-c jit=on"


@pytest.mark.postgresql
@pytest.mark.django_db
def test_the_server_ends_a_session_that_stands_still_in_a_transaction_or_has_lost_its_client(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", POSTGRESQL.url())
    options = env.database("DATABASE_URL", "")["OPTIONS"]["options"]
    wanted = {"idle_in_transaction_session_timeout": "10s", "tcp_user_timeout": "15000"}
    wanted |= {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3"}
    with psycopg.connect(libpq_url(POSTGRESQL.url()), options=options) as fresh:
        asked = "select " + ", ".join(f"current_setting('{name}')" for name in wanted)
        assert fresh.execute(asked.encode()).fetchall() == [tuple(wanted.values())]


def test_production_does_not_start_without_the_hosts_it_answers_for():
    production = {"SCHEDULER_ENV": "production", "SCHEDULER_SECRET_KEY": "k" * 60}
    refused = check(**production)
    assert refused.returncode != 0 and "SCHEDULER_ALLOWED_HOSTS is empty" in refused.stderr
    assert check(**production, SCHEDULER_ALLOWED_HOSTS="scheduler.example").returncode == 0


def test_a_module_of_callables_that_is_not_there_is_named(settings):
    settings.SCHEDULER_CALLABLES = ["workers_app.samples", "nope.mod", "workers_app.nope"]
    found = checks.callables()
    assert [message.id for message in found] == ["scheduler.E005", "scheduler.E005"]
    assert "nope.mod" in found[0].msg and "workers_app.nope" in found[1].msg
    settings.SCHEDULER_CALLABLES = ["workers_app.samples"]
    assert checks.callables() == []


@pytest.mark.parametrize(
    ("url", "ids"),
    [("redis-stream://localhost/0", ["scheduler.E003"]), ("redis://localhost/0", []), ("amqps://localhost//", [])],
)
def test_a_broker_that_no_transport_reaches_is_refused(settings, url, ids):
    settings.SCHEDULER_BROKER_URL = url
    assert [message.id for message in checks.broker()] == ids
