"""Queues as Redis Streams with one consumer group each, seen by one consumer of it. Knows nothing of kombu.

XADD puts, XREADGROUP takes, XACK with XDEL ends a message, XAUTOCLAIM takes over what a dead consumer held. A stream is
never trimmed: all that lies in it is unread or under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis

GROUP = "workers"
FIELD = "message"
# A name of its own: the same Redis may hold the same queue as a list.
SUFFIX = ".stream"
# A consumer that has not said for this long that it still holds a message is taken for dead.
IDLE_SECONDS = 15.0
FORGET_SECONDS = 24 * 3600
# (id, what was put); None is an entry that somebody else has written.
Entry = tuple[str, bytes | None]


class StreamGroups:
    """What one consumer, by its name, does with the queues of a Redis."""

    def __init__(self, client: redis.Redis, consumer: str) -> None:
        self._redis: Any = client
        self.consumer = consumer
        self._cursors: dict[str, bytes] = {}
        self._lifetimes: dict[str, int] = {}

    def create(self, queue: str, *, lifetime_ms: int | None = None) -> None:
        """Make stream and group unless they are there; with a lifetime they end that long after the last `prolong`."""
        if lifetime_ms is not None:
            self._lifetimes[queue] = lifetime_ms
        try:
            # From 0: what was put before there was a group is to be read as well.
            self._redis.xgroup_create(_key(queue), GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
            self._forget_the_dead(queue)
        self.prolong(queue)

    def prolong(self, queue: str) -> None:
        """Let a queue that ends by itself live as long as it may, from now on."""
        if (lifetime := self._lifetimes.get(queue)) is not None:
            self._redis.pexpire(_key(queue), lifetime)

    def exists(self, queue: str) -> bool:
        return bool(self._redis.exists(_key(queue)))

    def delete(self, queue: str) -> None:
        self._redis.delete(_key(queue))

    def put(self, queue: str, message: str) -> None:
        self._redis.xadd(_key(queue), {FIELD: message})

    def count_unread(self, queue: str) -> int:
        """Messages that nobody has taken yet."""
        with self._redis.pipeline() as pipe:
            pipe.xlen(_key(queue))
            pipe.xpending(_key(queue), GROUP)
            length, pending = pipe.execute(raise_on_error=False)
        if isinstance(length, Exception):
            raise length
        return max(int(length) - (0 if isinstance(pending, Exception) else int(pending["pending"])), 0)

    def take(self, queue: str) -> Entry | None:
        """The next unread message, without waiting for one."""
        found = self._grouped(queue, lambda: self._redis.xreadgroup(GROUP, self.consumer, {_key(queue): ">"}, count=1))
        return _entry(*found[0][1][0]) if found else None

    def remove(self, queue: str, id: str) -> None:
        """The message has been dealt with."""
        with self._redis.pipeline() as pipe:
            pipe.xack(_key(queue), GROUP, id)
            pipe.xdel(_key(queue), id)
            pipe.execute()

    def put_back(self, queue: str, id: str) -> None:
        """Put the message behind all others, unread."""
        found = self._redis.xrange(_key(queue), id, id)
        with self._redis.pipeline() as pipe:
            for _id, fields in found:
                pipe.xadd(_key(queue), fields)
            pipe.xack(_key(queue), GROUP, id)
            pipe.xdel(_key(queue), id)
            pipe.execute()

    def leave(self, queue: str) -> None:
        """Put back what this consumer holds, and let its name be forgotten."""
        held = self._redis.xpending_range(_key(queue), GROUP, min="-", max="+", count=1000, consumername=self.consumer)
        for entry in held:
            self.put_back(queue, entry["message_id"].decode())
        self._redis.xgroup_delconsumer(_key(queue), GROUP, self.consumer)

    def keep(self, queue: str, id: str) -> None:
        """Say that the message is held by somebody who lives."""
        self._grouped(queue, lambda: self._redis.xclaim(_key(queue), GROUP, self.consumer, 0, [id], justid=True))

    def claim(self, queue: str) -> list[Entry]:
        """Take over one message at most that was held by a dead consumer; each call looks on where the last ended."""
        start, idle = self._cursors.get(queue, b"0-0"), int(IDLE_SECONDS * 1000)
        found = self._grouped(
            queue, lambda: self._redis.xautoclaim(_key(queue), GROUP, self.consumer, idle, start_id=start, count=1)
        )
        if not found:
            return []
        self._cursors[queue] = found[0]
        return [_entry(id, fields) for id, fields in found[1] if fields]

    def reading(self, queues: Sequence[str], seconds: float) -> tuple[Any, ...]:
        """The command that waits for the next message of any of the queues."""
        ahead = ("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", 1, "BLOCK", int(seconds * 1000), "STREAMS")
        return (*ahead, *map(_key, queues), *[">"] * len(queues))

    def _forget_the_dead(self, queue: str) -> None:
        """Those who live ask every second, and those who died have been relieved of what they held."""
        for one in self._redis.xinfo_consumers(_key(queue), GROUP):
            if one["pending"] == 0 and one["idle"] > FORGET_SECONDS * 1000:
                self._redis.xgroup_delconsumer(_key(queue), GROUP, one["name"])

    def _grouped(self, queue: str, command: Callable[[], Any]) -> Any:
        """The answer of a command that needs the group; nothing, and the group anew, where it is gone."""
        try:
            return command()
        except redis.ResponseError as error:
            if not is_group_gone(error):
                raise
            self.create(queue)
            return None


def is_group_gone(error: redis.ResponseError) -> bool:
    """Whether the group, or its whole stream, has gone: after FLUSHDB, or a restart without a copy on disk."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))


def entries_of(answer: Any) -> list[tuple[str, Entry]]:
    """The (queue, entry) pairs in the bare answer to the command of `reading`."""
    return [
        (key.decode().removesuffix(SUFFIX), _entry(id, dict(zip(pairs[::2], pairs[1::2], strict=True))))
        for key, entries in answer or ()
        for id, pairs in entries
    ]


def _entry(id: bytes, fields: dict[bytes, bytes]) -> Entry:
    return id.decode(), fields.get(FIELD.encode())


def _key(queue: str) -> str:
    return queue + SUFFIX
