"""The broker envelope: (run id, attempt) pairs, signed. A doorbell: it carries no truth.

The body is JSON and names its queue; the signature over its very bytes travels in a header. Nothing of a message is
parsed before the signature has matched, so what a stranger puts into a queue costs one hash and is dropped.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from kombu import Queue

VERSION = 2
MAX_PAIRS = 1000
# MAX_PAIRS pairs of the largest numbers there are take less.
MAX_BYTES = 64 * 1024
CONTENT_TYPE = "application/json"
SIGNATURE = "signature"
QUORUM = "quorum"
QUEUE_TYPES = ("classic", QUORUM)
WORKER_QUEUE_SECONDS = 24 * 3600
FENCE_QUEUE_SECONDS = 600
_WORKER_ADDRESS = re.compile(r"(fence\.)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Pair = tuple[int, int]


class Tally:
    """A number that only grows, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def inc(self) -> None:
        with self._lock:
            self.value += 1


# What this process has taken from a broker that was not ours; told with each beat, and exported from there.
dropped = Tally()


class Envelope(NamedTuple):
    """The queue that a message was sealed for, and the runs that it announces there."""

    queue: str
    pairs: list[Pair]


class BadEnvelope(ValueError):
    """The message is not one of ours: wrong form, unknown version or wrong signature."""


def seal(queue: str, pairs: Sequence[Pair]) -> tuple[str, dict[str, str]]:
    """The body and the headers of a message that announces up to MAX_PAIRS (run id, attempt) pairs in a queue."""
    body = json.dumps({"v": VERSION, "queue": queue, "runs": pairs}, separators=(",", ":"))
    return body, {SIGNATURE: _sign(_keys()[0], body.encode())}


def unseal(body: Any, *, content_type: Any, headers: Any, queues: Container[str]) -> Envelope:
    """What a message says that came from one of the `queues`.

    Raises BadEnvelope; never trusts a word before the signature has matched. A signature by a previous secret key is
    as good as one by the present key.
    """
    raw = body.encode("utf-8", "replace") if isinstance(body, str) else body
    if content_type != CONTENT_TYPE or not isinstance(raw, bytes):
        raise BadEnvelope("not JSON")
    if len(raw) > MAX_BYTES:
        raise BadEnvelope("too large")
    signature = headers.get(SIGNATURE) if isinstance(headers, Mapping) else None
    if not isinstance(signature, str) or not signature.isascii():
        raise BadEnvelope("not signed")
    if not any(hmac.compare_digest(signature, _sign(key, raw)) for key in _keys()):
        raise BadEnvelope("wrong signature")
    return _read(raw, queues)


def open_message(message: Any, queues: Container[str]) -> Envelope:
    """What a message of kombu's announces. Raises BadEnvelope."""
    return unseal(message.body, content_type=message.content_type, headers=message.headers, queues=queues)


def worker_address(worker_id: UUID) -> str:
    """What stands in place of a pool's name for the queue of one worker alone."""
    return str(worker_id)


def fence_address(worker_id: UUID) -> str:
    """The same for the queue in which a worker is told that it is held for dead."""
    return f"fence.{worker_id}"


def queue_name(pool: str) -> str:
    """The broker queue of a pool, or of a worker by its address: dispatchers publish to it, workers consume from it.

    RabbitMQ cannot change the type of a queue, so that a quorum queue has a name of its own.
    """
    ending = f".{QUORUM}" if settings.SCHEDULER_RABBITMQ_QUEUE_TYPE == QUORUM else ""
    return f"{settings.SCHEDULER_QUEUE_PREFIX}.{pool}{ending}"


def address_of(queue: str) -> str:
    """What `queue_name` made the name of the queue from."""
    return queue.removeprefix(f"{settings.SCHEDULER_QUEUE_PREFIX}.").removesuffix(f".{QUORUM}")


def pool_queue(pool: str) -> Queue:
    """The queue of a pool, or of a worker by its address."""
    return queue_of(queue_name(pool))


def queue_of(name: str) -> Queue:
    """The durable queue of this name, on the default exchange, where its name is its address. That of a worker ends
    some time after the worker, where the broker can do that."""
    is_quorum = settings.SCHEDULER_RABBITMQ_QUEUE_TYPE == QUORUM
    arguments = {"x-queue-type": QUORUM} if is_quorum else None
    return Queue(name, durable=True, queue_arguments=arguments, expires=lifetime_of(name))


def lifetime_of(queue: str) -> int | None:
    """Seconds after which a queue that nobody uses is to be gone; None for those of pools, which stay."""
    found = _WORKER_ADDRESS.fullmatch(address_of(queue))
    if found is None:
        return None
    return FENCE_QUEUE_SECONDS if found[1] else WORKER_QUEUE_SECONDS


def _read(raw: bytes, queues: Container[str]) -> Envelope:
    """What one of our own programs has signed; yet it may be of another version, or have been moved elsewhere."""
    try:
        envelope = json.loads(raw)
        version, queue, rows = envelope["v"], envelope["queue"], envelope["runs"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadEnvelope("malformed envelope") from error
    if version != VERSION:
        raise BadEnvelope("unknown envelope version")
    if not isinstance(queue, str) or queue not in queues:
        raise BadEnvelope("meant for another queue")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_PAIRS:
        raise BadEnvelope("malformed envelope")
    if not all(isinstance(row, list) and len(row) == 2 and all(type(number) is int for number in row) for row in rows):
        raise BadEnvelope("malformed run reference")
    return Envelope(queue, [(row[0], row[1]) for row in rows])


def _sign(key: bytes, body: bytes) -> str:
    return hmac.digest(key, body, "sha256").hex()


def _keys() -> tuple[bytes, ...]:
    """The present key first: it signs. The previous ones are still believed while a change of key is under way."""
    return tuple(_key(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=16)
def _key(secret: str) -> bytes:
    return hashlib.sha256(f"scheduler.broker.envelope:{secret}".encode()).digest()
