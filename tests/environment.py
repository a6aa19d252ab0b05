"""What the test run stands on: which database, a data directory of its own, and which parts cannot run here.

Decided once, by the first process; pytest-xdist's workers inherit it through the environment.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg

from scripts.probes import POSTGRESQL, RABBITMQ, REDIS, find_chromium, libpq_url

NOT_RUN = "NOT RUN: "
OURS = ("SCHEDULER_", "CELERY_", "DATABASE_", "OTEL_")
_FALLBACK = "TEST_DB_FALLBACK"
_DIRECTORY = "TEST_DIRECTORY"
_NAME = "TEST_DATABASE_NAME"


def prepare() -> None:
    """Set the environment that scheduler_site.settings reads. Call before Django loads its settings."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    os.environ["DJANGO_SETTINGS_MODULE"] = "scheduler_site.settings"
    if _DIRECTORY not in os.environ:
        os.environ[_DIRECTORY] = tempfile.mkdtemp(prefix="scheduler-tests-")
    directory = os.environ[_DIRECTORY]
    os.environ["SCHEDULER_DATA_DIR"] = directory
    os.environ["SCHEDULER_ENV"] = "development"
    os.environ["SCHEDULER_SECRET_KEY"] = "tests-only-" + "k" * 50
    os.environ["CELERY_BROKER_URL"] = ""
    # Tests that count their statements are not to meet one more now and then; what limits has tests of its own.
    os.environ["SCHEDULER_REQUESTS_PER_MINUTE"] = "0"
    if "TEST_DB" not in os.environ:
        os.environ["TEST_DB"] = "postgresql" if POSTGRESQL.answers(POSTGRESQL.url()) else "sqlite"
        os.environ[_FALLBACK] = "" if os.environ["TEST_DB"] == "postgresql" else "1"
    if on_postgresql():
        os.environ.setdefault(_NAME, f"test_scheduler_{os.getpid()}")
        os.environ["DATABASE_URL"] = POSTGRESQL.url()
    else:
        os.environ[_NAME] = f"{directory}/test.sqlite3"
        os.environ["DATABASE_URL"] = f"sqlite:///{directory}/scheduler.sqlite3"


def on_postgresql() -> bool:
    return os.environ["TEST_DB"] == "postgresql"


def test_database_name() -> str:
    """The name (or file) of the test database, before pytest-xdist's suffix. Every run has one of its own."""
    return os.environ[_NAME]


def database_url(database: str) -> str:
    """The URL of another database on the PostgreSQL server of the tests."""
    return urlunsplit(urlsplit(POSTGRESQL.url())._replace(path=f"/{database}"))


def administer(*statements: str) -> None:
    """Run statements such as CREATE DATABASE on the PostgreSQL server of the tests, outside any transaction."""
    with psycopg.connect(libpq_url(POSTGRESQL.url()), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def database_exists(name: str) -> bool:
    """Whether the PostgreSQL server of the tests has a database of this name."""
    with psycopg.connect(libpq_url(POSTGRESQL.url()), autocommit=True) as connection:
        return connection.execute("select 1 from pg_database where datname = %s", (name,)).fetchone() is not None


def drop_abandoned_databases() -> None:
    """Drop the databases of test runs that were killed: their names end in the number of a process that is no more."""
    if not on_postgresql() or urlsplit(POSTGRESQL.url()).hostname not in ("127.0.0.1", "localhost", "::1"):
        return
    with psycopg.connect(libpq_url(POSTGRESQL.url()), autocommit=True) as connection:
        query = r"select datname, substring(datname from '^test_scheduler_(\d+)') from pg_database where datname ~ "
        for name, pid in connection.execute(query + r"'^test_scheduler_\d+'").fetchall():
            if not psutil.pid_exists(int(pid)):
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def forget() -> None:
    """Remove what `prepare` made; for the process that made it."""
    shutil.rmtree(Path(os.environ[_DIRECTORY]), ignore_errors=True)


@cache
def missing_part(mark: str) -> str | None:
    """Why tests with this mark cannot run here ("NOT RUN: ..."), or None when they can."""
    checks: dict[str, tuple[str, Callable[[], Any]]] = {
        "rabbitmq": ("tests with RabbitMQ, none answers", lambda: RABBITMQ.answers(RABBITMQ.url())),
        "redis": ("tests with Redis, none answers", lambda: REDIS.answers(REDIS.url())),
        "browser": ("browser tests, no Chromium", find_chromium),
        "postgresql": ("tests with PostgreSQL, none answers", on_postgresql),
    }
    text, answers = checks[mark]
    return None if answers() else NOT_RUN + text


def missing_suite() -> str | None:
    """Why the whole suite ran on a lesser database than it should, or None."""
    if not os.environ.get(_FALLBACK):
        return None
    return f"{NOT_RUN}the suite on PostgreSQL, none answers at {urlsplit(POSTGRESQL.url()).netloc}; SQLite was used"
