"""A Redis to try things on: the one of the tests, with keys that nobody else uses and that are gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis

from scripts.probes import REDIS


@contextmanager
def client() -> Iterator[redis.Redis]:
    one = redis.Redis.from_url(REDIS.url(), protocol=2)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def prefix() -> Iterator[str]:
    """The beginning of the keys of one test."""
    name = f"test-{uuid4().hex}"
    try:
        yield name
    finally:
        drop(name)


def drop(prefix: str) -> None:
    with client() as one:
        if keys := list(one.scan_iter(f"{prefix}*", count=1000)):
            one.delete(*keys)
