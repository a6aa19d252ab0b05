"""Moves the output of large runs that are over out of the database, on a thread of its own."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import structlog
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import close_old_connections, connection

from tasks_app import output_stores, run_output
from tasks_app.output_stores import StoreFault

log = structlog.get_logger(__name__)
CLOSING_SECONDS = 5.0
_END = (0, 0)


class Archive:
    """What cannot be moved stays where it is, and can be read there; `manage.py move_output` tries again."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, run_id: int, attempt: int, size: int) -> None:
        """Have the output of an attempt moved that is over, if it is large enough and there is a place for it."""
        if size <= settings.SCHEDULER_OUTPUT_STORE_FROM_BYTES or output_stores.configured() is None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="archive", daemon=True)
                self._thread.start()
        self._queue.put((run_id, attempt))

    def close(self) -> None:
        """Move what waits, for some seconds at most."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(_END)
            thread.join(CLOSING_SECONDS)

    def _loop(self) -> None:
        while (item := self._queue.get()) != _END:
            store = output_stores.configured()
            try:
                close_old_connections()
                if store is not None:
                    run_output.move_out(*item, store)
            except (StoreFault, DatabaseFault) as error:
                log.warning("output stays in the database", run=item[0], attempt=item[1], error=str(error).strip())
            except Exception:
                log.exception("output stays in the database", run=item[0], attempt=item[1])
        connection.close()
