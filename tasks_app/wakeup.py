"""A hint that there is work: losing one costs one poll interval, never a run.

PostgreSQL carries it with NOTIFY (sent with the commit) and LISTEN; on SQLite a waiter in the same process is woken at
once, and one in another process sees that the file has changed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from django.db import DatabaseError, connection, transaction

from tasks_app import rowset

CHANNEL = "scheduler_wakeup"
_FILE_POLL_SECONDS = 0.1
_local = threading.Event()


def nudge() -> None:
    """Wake the waiters once the current transaction commits (at once when there is none)."""
    if rowset.is_postgresql():
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
    else:
        transaction.on_commit(_local.set)


class Waiter:
    """Waits for nudges, on a connection of its own. Use from one thread."""

    def __init__(self) -> None:
        self._listener: Any = None
        self._seen_version = -1
        self._stopped = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; True when nudged. Never raises: without a database it just waits."""
        if rowset.is_postgresql():
            return self._wait_for_notify(timeout)
        return self._wait_for_change(timeout)

    def stop(self) -> None:
        """End a wait under way soon (within a second); for signal handlers and other threads."""
        self._stopped.set()
        _local.set()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _wait_for_notify(self, timeout: float) -> bool:
        import psycopg

        try:
            if self._listener is None:
                self._listener = psycopg.connect(**connection.get_connection_params(), autocommit=True)
                self._listener.execute(f"LISTEN {CHANNEL}")
                return True  # what was sent before we listened is not lost on us
            end = time.monotonic() + timeout
            while not self._stopped.is_set() and (left := end - time.monotonic()) > 0:
                # Short slices, so that stop() is heard by a thread that cannot be sent a signal.
                for _ in self._listener.notifies(timeout=min(left, 0.25), stop_after=1):
                    return True
            return False
        except (psycopg.Error, DatabaseError, OSError):
            self.close()
            self._stopped.wait(timeout)
            return False

    def _wait_for_change(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not self._stopped.is_set() and (left := end - time.monotonic()) > 0:
            if _local.wait(min(left, _FILE_POLL_SECONDS)):
                _local.clear()
                self._data_version()
                return True
            if self._data_version():
                return True
        return False

    def _data_version(self) -> bool:
        """Whether another connection has written to the file since the last look.

        The number means something only on one connection, so it is asked on one that is kept: Django's own may be
        opened anew between two looks, and what was written then would go unseen.
        """
        import sqlite3

        try:
            if self._listener is None:
                name = connection.get_connection_params()["database"]
                self._listener = sqlite3.connect(
                    name, uri=True, isolation_level=None, timeout=1, check_same_thread=False
                )
            version = self._listener.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            self.close()
            return False
        changed, self._seen_version = version != self._seen_version, version
        return bool(changed)
