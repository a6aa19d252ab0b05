"""Runs that must have their worker for themselves: it takes nothing new, and they begin when all others are over."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping

from workers_app.jobs import Active

LOOK_SECONDS = 0.1


class Solitude:
    """Of one worker; `active` are its runs by id, those that wait here among them."""

    def __init__(self, active: Mapping[int, Active]) -> None:
        self._active = active
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._wanting: set[int] = set()

    @property
    def is_wanted(self) -> bool:
        return bool(self._wanting)

    def want(self, run_id: int) -> None:
        """From now on nothing else may be claimed, until the run has given it up."""
        with self._lock:
            self._wanting.add(run_id)

    def give_up(self, run_id: int) -> None:
        with self._lock:
            self._wanting.discard(run_id)

    @contextlib.contextmanager
    def of(self, active: Active) -> Iterator[None]:
        """Wait until no other run is under way; several that want to be alone are so one after the other. One that is
        asked to end meanwhile goes on at once, to its end."""
        while not self._turn.acquire(timeout=LOOK_SECONDS):
            if active.control.why is not None:
                yield
                return
        try:
            pause = threading.Event()
            while active.control.why is None and self._others():
                pause.wait(LOOK_SECONDS)
            yield
        finally:
            self._turn.release()

    def _others(self) -> bool:
        with self._lock:
            return not dict(self._active).keys() <= self._wanting
