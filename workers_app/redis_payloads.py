"""What lies in a Redis key for kombu's channels to read: a JSON object. Garbage becomes a message that is refused.

kombu reads its own objects without a doubt; one stray entry would end the consumer, and its successor, and the next.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

# An envelope, wrapped twice on the way, is far smaller.
MAX_BYTES = 256 * 1024
UNREADABLE = "application/x-unreadable"


def payload_of(raw: bytes | str | None) -> dict[str, Any]:
    """The payload of a message as kombu's virtual channels want it; a stand-in that no consumer accepts for garbage."""
    try:
        if raw is None or len(raw) > MAX_BYTES:
            return _stand_in()
        payload = json.loads(raw)
        properties = payload["properties"]
        if properties["body_encoding"] != "base64":
            return _stand_in()
        base64.b64decode(payload["body"], validate=True)
        sound = (
            isinstance(payload["headers"], dict)
            and "compression" not in payload["headers"]
            and isinstance(properties["delivery_info"], dict)
            and isinstance(properties["delivery_tag"], str)
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return _stand_in()
    return payload if sound else _stand_in()


def _stand_in() -> dict[str, Any]:
    return {
        "body": "",
        "content-type": UNREADABLE,
        "content-encoding": "binary",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": ""},
        },
    }
