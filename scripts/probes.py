"""Does a server that the tests need answer, and is there a browser? Used by `make test` and by tests/conftest.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
import redis
from kombu import Connection

ANSWER_SECONDS = 3


def postgresql_answers(url: str) -> bool:
    """Whether a PostgreSQL accepts a sign-in at `url` within a few seconds."""
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=ANSWER_SECONDS) as connection:
            connection.execute("select 1")
    except psycopg.Error:
        return False
    return True


def rabbitmq_answers(url: str) -> bool:
    """Whether a RabbitMQ accepts a sign-in at `url` within a few seconds."""
    try:
        with Connection(url, connect_timeout=ANSWER_SECONDS, heartbeat=0) as connection:
            connection.connect()
    except (OSError, *Connection(url).connection_errors):
        return False
    return True


def redis_answers(url: str) -> bool:
    """Whether a Redis answers a PING at `url` within a few seconds."""
    client = redis.Redis.from_url(url, socket_connect_timeout=ANSWER_SECONDS, socket_timeout=ANSWER_SECONDS, retry=None)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def libpq_url(url: str) -> str:
    """The URL in the form that libpq reads (`postgres://` and `postgresql://` alike)."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome for the browser tests: TEST_CHROMIUM, else the first one on the PATH."""
    given = os.environ.get("TEST_CHROMIUM", "")
    names = (given,) if given else ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Server:
    """A server that tests use: the variable with its URL, the standard local URL and how to ask whether it answers."""

    name: str
    variable: str
    standard_url: str
    answers: Callable[[str], bool]

    def url(self, environment: Mapping[str, str] = os.environ) -> str:
        """Where tests look for it: the variable, else its standard local port."""
        return environment.get(self.variable) or self.standard_url


POSTGRESQL = Server(
    "PostgreSQL", "TEST_DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres", postgresql_answers
)
RABBITMQ = Server("RabbitMQ", "TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//", rabbitmq_answers)
REDIS = Server("Redis", "TEST_REDIS_URL", "redis://127.0.0.1:6379/", redis_answers)
SERVERS = (POSTGRESQL, RABBITMQ, REDIS)
