"""kombu's transport for Redis lists, hardened: an entry that is no message of kombu's does not end the consumer."""

from __future__ import annotations

import json
from typing import Any

import redis
from kombu.transport import redis as kombu_redis

from workers_app.messages import lifetime_of
from workers_app.redis_payloads import UNREADABLE, payload_of


class Client(redis.Redis):
    """Replaces what kombu could not read, where the answer of Redis comes in."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        answer = super().parse_response(connection, command_name, **options)
        if command_name == "BRPOP" and answer:
            return answer[0], _readable(answer[1])
        if command_name == "RPOP" and answer:
            return _readable(answer)
        return answer


class Channel(kombu_redis.Channel):
    def _get_client(self) -> Any:
        return Client

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        super()._put(queue, message, **options)
        # A list knows nothing of the time after which its queue is to be gone.
        if (seconds := lifetime_of(queue)) is not None:
            with self.conn_or_acquire() as client:
                client.expire(queue, seconds)


class Transport(kombu_redis.Transport):
    Channel = Channel


def _readable(raw: bytes) -> bytes:
    payload = payload_of(raw)
    return json.dumps(payload).encode() if payload["content-type"] == UNREADABLE else raw
