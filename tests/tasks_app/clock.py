"""Instants and durations as tests write them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def seconds_taken(call: Callable[[], object]) -> float:
    """Seconds of this process's CPU: the best of five tries, so that a busy machine does not decide."""
    tries = []
    for _ in range(5):
        start = time.process_time()
        call()
        tries.append(time.process_time() - start)
    return min(tries)
