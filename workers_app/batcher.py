"""Group commit: what many threads want of the database at the same moment becomes one statement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

import structlog
from django.db import Error as DatabaseFault
from django.db import close_old_connections, connection

from access_app.outages import is_outage

log = structlog.get_logger(__name__)
Item = TypeVar("Item")
Answer = TypeVar("Answer")
CLOSING_SECONDS = 5.0


class Closed(Exception):
    """The batcher takes nothing more."""


class Batcher(Generic[Item, Answer]):
    """Hands items to `work` in batches, on one thread with one database connection of its own.

    `work` takes up to `limit` items and returns an answer for each, in order. While the database is away the batch is
    tried again, for at most `patience` seconds; then its waiters get the error. What is refused for another reason is
    tried item by item, so that only the waiters of a bad item get an error.
    """

    def __init__(
        self, name: str, work: Callable[[Sequence[Item]], Sequence[Answer]], *, limit: int, patience: float
    ) -> None:
        self._work, self._limit, self._patience = work, limit, patience
        self._queue: SimpleQueue[tuple[Item, Future[Answer]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Answer]:
        """The answer to come; Closed comes of what is submitted after `close`."""
        future: Future[Answer] = Future()
        with self._lock:
            # Behind the end mark nobody would ever answer it.
            if self._closed.is_set():
                future.set_exception(Closed())
            else:
                self._queue.put((item, future))
        return future

    def ask(self, item: Item) -> Answer:
        """Submit and wait. Raises what `work` raises."""
        return self.submit(item).result()

    def close(self) -> None:
        """Finish what was submitted, then end the thread; an outage is waited for CLOSING_SECONDS at most."""
        with self._lock:
            self._closed.set()
            self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < self._limit and not self._queue.empty():
                batch.append(self._queue.get())
            closing = None in batch
            wanted = [entry for entry in batch if entry is not None]
            if wanted:
                self._serve(wanted)
        _forget_connection()

    def _serve(self, batch: Sequence[tuple[Item, Future[Answer]]]) -> None:
        started = time.monotonic()
        pause = 0.05
        while True:
            try:
                close_old_connections()
                answers = self._work([item for item, _future in batch])
                for (_item, future), answer in zip(batch, answers, strict=True):
                    future.set_result(answer)
                return
            except Exception as error:  # noqa: BLE001  (every waiter must hear of it, whatever it is)
                if not is_outage(error):
                    self._refuse(batch, error)
                    return
                _forget_connection()
                if time.monotonic() + pause > started + self._patience_now():
                    _fail(batch, error)
                    return
                log.warning("database out of reach, trying again", error=str(error).strip())
                time.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _refuse(self, batch: Sequence[tuple[Item, Future[Answer]]], error: Exception) -> None:
        """One item that is refused must not take the others of its batch with it."""
        if len(batch) == 1:
            _fail(batch, error)
        else:
            for entry in batch:
                self._serve([entry])

    def _patience_now(self) -> float:
        return min(self._patience, CLOSING_SECONDS) if self._closed.is_set() else self._patience


def _fail(batch: Sequence[tuple[Item, Future[Answer]]], error: Exception) -> None:
    for _item, future in batch:
        future.set_exception(error)


def _forget_connection() -> None:
    try:
        connection.close()
    except DatabaseFault as error:
        log.debug("closing the connection failed", error=str(cast(Any, error)).strip())
