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

log = structlog.get_logger(__name__)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Hands items to `work` in batches, on one thread with one database connection of its own.

    `work` takes up to `limit` items and returns an answer for each, in order. While the database is away the batch is
    tried again, for at most `patience` seconds an item; then its waiters get the error.
    """

    def __init__(
        self, name: str, work: Callable[[Sequence[Item]], Sequence[Answer]], *, limit: int, patience: float
    ) -> None:
        self._work, self._limit, self._patience = work, limit, patience
        self._queue: SimpleQueue[tuple[Item, Future[Answer]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Answer]:
        future: Future[Answer] = Future()
        self._queue.put((item, future))
        return future

    def ask(self, item: Item) -> Answer:
        """Submit and wait. Raises what `work` raises."""
        return self.submit(item).result()

    def close(self) -> None:
        """Finish what was submitted, then end the thread."""
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
        connection.close()

    def _serve(self, batch: Sequence[tuple[Item, Future[Answer]]]) -> None:
        end = time.monotonic() + self._patience
        pause = 0.05
        while True:
            try:
                close_old_connections()
                answers = self._work([item for item, _future in batch])
                break
            except DatabaseFault as error:
                _forget_connection()
                if time.monotonic() + pause > end:
                    self._fail(batch, error)
                    return
                log.warning("database out of reach, trying again", error=str(error).strip())
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
            except Exception as error:  # noqa: BLE001  (every waiter must hear of it, whatever it is)
                self._fail(batch, error)
                return
        for (_item, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)

    def _fail(self, batch: Sequence[tuple[Item, Future[Answer]]], error: Exception) -> None:
        if len(batch) > 1 and not _is_outage(error):
            # One item that the database refuses must not take the others of its batch with it.
            for entry in batch:
                self._serve([entry])
            return
        for _item, future in batch:
            future.set_exception(error)


def _is_outage(error: Exception) -> bool:
    from django.db import InterfaceError, OperationalError

    return isinstance(error, OperationalError | InterfaceError)


def _forget_connection() -> None:
    try:
        connection.close()
    except DatabaseFault as error:
        log.debug("closing the connection failed", error=str(cast(Any, error)).strip())
