"""The broker envelope: (run id, attempt) pairs with a version and a signature. A doorbell: it carries no truth."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from kombu import Queue

TASK_NAME = "scheduler.execute_runs"
VERSION = 1
MAX_PAIRS = 1000
WORKER_QUEUE_SECONDS = 24 * 3600
_WORKER_ADDRESS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Pair = tuple[int, int]


class BadEnvelope(ValueError):
    """The message is not one of ours: wrong form, unknown version or wrong signature."""


def pack(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The envelope for up to MAX_PAIRS (run id, attempt) pairs."""
    return {"v": VERSION, "runs": [list(pair) for pair in pairs], "sig": _sign(pairs)}


def unpack(envelope: Any) -> list[Pair]:
    """The pairs of an envelope. Raises BadEnvelope; never trusts a word before the signature has matched."""
    if not isinstance(envelope, dict) or envelope.get("v") != VERSION:
        raise BadEnvelope("unknown envelope version")
    rows, signature = envelope.get("runs"), envelope.get("sig")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_PAIRS or not isinstance(signature, str):
        raise BadEnvelope("malformed envelope")
    if not all(isinstance(row, list) and len(row) == 2 and all(type(number) is int for number in row) for row in rows):
        raise BadEnvelope("malformed run reference")
    pairs = [(row[0], row[1]) for row in rows]
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), _sign(pairs).encode()):
        raise BadEnvelope("wrong signature")
    return pairs


def worker_address(worker_id: UUID) -> str:
    """What stands in place of a pool's name for the queue of one worker alone."""
    return str(worker_id)


def queue_name(pool: str) -> str:
    """The broker queue of a pool, or of a worker by its address: dispatchers publish to it, workers consume from it."""
    return f"{settings.SCHEDULER_QUEUE_PREFIX}.{pool}"


def pool_queue(pool: str) -> Queue:
    """The durable queue of a pool, or of a worker by its address, on the default exchange, where its name is its
    address. That of a worker ends some time after the worker, where the broker can do that."""
    expires = WORKER_QUEUE_SECONDS if _WORKER_ADDRESS.fullmatch(pool) else None
    return Queue(queue_name(pool), durable=True, expires=expires)


def _sign(pairs: Sequence[Pair]) -> str:
    text = f"{VERSION};" + ",".join(f"{run}:{attempt}" for run, attempt in pairs)
    return hmac.new(_key(settings.SECRET_KEY), text.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=2)
def _key(secret: str) -> bytes:
    return hashlib.sha256(f"scheduler.broker.envelope:{secret}".encode()).digest()
