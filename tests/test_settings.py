"""Settings that make no sense stop the start with a sentence that names the variable."""

from __future__ import annotations

import os
import secrets
import ssl
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from monitoring_app import checks
from scheduler_site import env
from scripts.probes import POSTGRESQL, libpq_url
from workers_app import brokers

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


def test_a_word_that_lifts_no_guard_is_refused_at_start(monkeypatch):
    words = ("database", "broker")
    for text, expected in (("", []), ("broker", ["broker"]), ("database, broker", ["database", "broker"])):
        monkeypatch.setenv("SCHEDULER_PLAINTEXT", text)
        assert env.several("SCHEDULER_PLAINTEXT", words) == expected
    monkeypatch.setenv("SCHEDULER_PLAINTEXT", "database,brokers")
    with pytest.raises(ImproperlyConfigured, match=r"SCHEDULER_PLAINTEXT has 'brokers'; it takes database and broker"):
        env.several("SCHEDULER_PLAINTEXT", words)


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
    production = {"SCHEDULER_ENV": "production", "SCHEDULER_SECRET_KEY": secrets.token_urlsafe(64)}
    production["SCHEDULER_ENCRYPTION_KEYS"] = "0123456789abcdef" * 2
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
    "url",
    [
        "redis://localhost/0",
        "redis://localhost",
        "rediss://user:pass@localhost:6380/3",
        "redis-stream://localhost:6379/1",
        "rediss-stream://localhost",
        "amqp://guest:guest@localhost:5672//",
        "amqps://localhost//",
        "memory://localhost/",
    ],
)
def test_a_broker_that_a_transport_reaches_is_accepted(settings, url):
    settings.SCHEDULER_BROKER_URL = url
    assert checks.broker() == []


@pytest.mark.parametrize(
    "url",
    [
        "carrier-pigeon://localhost",
        "localhost:5672",
        "amqp://",
        "amqp://localhost:none/",
        "redis://localhost/jobs",
        "redis-stream://localhost/-1",
        "rediss://localhost/0?ssl_cert_reqs=none",
        "amqp://one//;amqp://other//",
        "workers_app.redis_lists:Transport://localhost",
    ],
)
def test_a_broker_that_no_transport_reaches_is_refused(settings, url):
    settings.SCHEDULER_BROKER_URL = url
    assert [message.id for message in checks.broker()] == ["scheduler.E003"]


@pytest.mark.parametrize(("kind", "ids"), [("classic", []), ("quorum", []), ("stream", ["scheduler.E006"])])
def test_a_type_of_queue_that_keeps_no_messages_is_refused(settings, kind, ids):
    settings.SCHEDULER_RABBITMQ_QUEUE_TYPE = kind
    assert [message.id for message in checks.queue_type()] == ids


def test_a_file_for_tls_that_is_not_there_is_named_and_a_key_needs_its_certificate(settings, tmp_path):
    there = tmp_path / "ca.pem"
    there.write_text("x")
    assert checks.broker_tls() == []
    settings.SCHEDULER_BROKER_CA_PATH = settings.SCHEDULER_BROKER_KEY_PATH = str(there)
    assert [message.id for message in checks.broker_tls()] == ["scheduler.E008"]
    settings.SCHEDULER_BROKER_CERTIFICATE_PATH = str(tmp_path / "none.pem")
    (found,) = checks.broker_tls()
    assert found.id == "scheduler.E007" and "SCHEDULER_BROKER_CERTIFICATE_PATH" in found.msg


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:hush@host:5672//", "amqp://me:********@host:5672//"),
        ("redis://:hush@host/0", "redis://:********@host/0"),
        ("redis://host/0", "redis://host/0"),
        ("amqp://me@host//", "amqp://me@host//"),
    ],
)
def test_the_password_of_a_broker_is_not_shown(url, shown):
    assert brokers.masked(url) == shown


def test_the_certificate_of_a_broker_is_always_verified_and_ours_is_shown(settings):
    settings.SCHEDULER_BROKER_CA_PATH, settings.SCHEDULER_BROKER_CERTIFICATE_PATH = "ca.pem", "own.pem"
    settings.SCHEDULER_BROKER_KEY_PATH = "key.pem"
    rabbitmq = brokers.connection("amqps://rabbit.example//", seconds=5).ssl
    assert rabbitmq == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "ca_certs": "ca.pem",
        "certfile": "own.pem",
        "keyfile": "key.pem",
        "server_hostname": "rabbit.example",
    }
    for scheme in ("rediss", "rediss-stream"):
        redis: Any = brokers.connection(f"{scheme}://redis.example/0", seconds=5).ssl
        assert redis["ssl_cert_reqs"] == "required" and redis["ssl_check_hostname"] is True
        assert (redis["ssl_ca_certs"], redis["ssl_certfile"]) == ("ca.pem", "own.pem")
    assert not brokers.connection("amqp://rabbit.example//", seconds=5).ssl
