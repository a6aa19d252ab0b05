"""kombu's transport for Redis lists, hardened: an entry that is no message of kombu's does not end the consumer."""

from __future__ import annotations

import json
from typing import Any

import redis
from kombu.transport import redis as kombu_redis

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


class Transport(kombu_redis.Transport):
    Channel = Channel


def _readable(raw: bytes) -> bytes:
    payload = payload_of(raw)
    return json.dumps(payload).encode() if payload["content-type"] == UNREADABLE else raw
