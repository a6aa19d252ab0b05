"""Refusals that concern security, in the audit trail: each of them once a minute, and only so many in all.

Whoever knocks without a key must not be able to fill the trail, nor make every request a write. The counts are those of
this process; that of all of them is at most their number times as many.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from datetime import datetime
from typing import Any

import structlog
from django.db import DatabaseError

from access_app import audit
from access_app.network import client_address, neighbourhood

log = structlog.get_logger(__name__)
MOST_A_MINUTE = 30


class Ration:
    """So many things a minute, each of them once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self._minute = 0
        self._seen: set[Hashable] = set()
        self._left_out = 0

    def take(self, thing: Hashable, now: datetime) -> int | None:
        """None for a thing that is left out, else how many were left out since the last one that was not."""
        minute = int(now.timestamp() // 60)
        with self._lock:
            if minute != self._minute:
                self._minute = minute
                self._seen.clear()
            if thing in self._seen or len(self._seen) >= self._most:
                self._left_out += 1
                return None
            self._seen.add(thing)
            left_out, self._left_out = self._left_out, 0
            return left_out


# Apart, so that a flood from nobody in particular hides nothing of those whom we know.
_KNOWN, _UNKNOWN = Ration(MOST_A_MINUTE), Ration(MOST_A_MINUTE)


def note(
    request: Any, reason: str, *, now: datetime, subject: str = "request", user: Any = None, name: str = ""
) -> None:
    """Record that the request was refused for this reason.

    `subject` is what was refused, and `name` which of them; `user` is whose it is, where that is proven. A name that
    anybody could have written counts as nobody's.
    """
    address = client_address(request)
    who = f"user {user.get_username()}" if user is not None else "anonymous"
    if user is not None:
        left_out = _KNOWN.take((reason, subject, name, user.pk, neighbourhood(address)), now)
    else:
        left_out = _UNKNOWN.take((reason, subject, neighbourhood(address)), now)
    if left_out is None:
        return
    told: dict[str, Any] = {"reason": reason} | ({"others_left_out": left_out} if left_out else {})
    log.warning("refused", reason=reason, subject=subject, name=name[:200], who=who, address=address)
    try:
        audit.append_refusal(
            who,
            user,
            subject=subject,
            name=name,
            told=told,
            address=address,
            request_id=getattr(request, "request_id", ""),
            now=now,
        )
    except DatabaseError:
        log.warning("A refusal could not be written to the audit trail", exc_info=True)


def forget() -> None:
    """Begin to count anew."""
    _KNOWN.forget()
    _UNKNOWN.forget()
