"""Where the output of large runs is kept once they are over: the database, a directory, or a store that speaks S3."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

from django.conf import settings


class StoreFault(Exception):
    """The store did not do what was asked of it; the text says why."""


class Store(Protocol):
    """Keeps objects by name. Names are of our making: letters, digits, `/`, `-` and `.`."""

    name: str

    def put(self, key: str, data: bytes) -> None:
        """Keep it, in place of what has this name. Raises StoreFault."""

    def get(self, key: str) -> bytes:
        """Raises StoreFault, also for a name that is not known."""

    def delete(self, key: str) -> None:
        """Forget it; a name that is not known is fine. Raises StoreFault."""


def configured() -> Store | None:
    """The store of this installation; None where all output stays in the database."""
    return store_at(settings.SCHEDULER_OUTPUT_STORE)


@cache
def store_at(place: str) -> Store | None:
    """The store at `file:///path` or `s3://bucket/prefix`; None for the database."""
    if place.startswith("s3://"):
        from tasks_app.output_stores.s3 import S3Store

        bucket, _slash, prefix = place.removeprefix("s3://").partition("/")
        return S3Store(place, bucket, prefix)
    if place.startswith("file://"):
        from tasks_app.output_stores.directory import DirectoryStore

        return DirectoryStore(place, Path(place.removeprefix("file://")))
    return None
