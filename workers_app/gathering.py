"""Results of a pack, gathered so that they are recorded together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from workers_app.jobs import Active, Result
from workers_app.output import OutputSink

Entry = tuple[Active, OutputSink, Result]


class Gathered:
    """Results of a pack, finished together; earlier when one of its calls takes long."""

    def __init__(self, complete: Callable[[list[Entry]], None]) -> None:
        self._complete = complete
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._answered: set[int] = set()

    def add(self, active: Active, sink: OutputSink, result: Result) -> None:
        with self._lock:
            self._entries.append((active, sink, result))
            self._answered.add(active.job.run_id)

    def add_missing(self, entries: list[tuple[Active, OutputSink]], result: Result) -> None:
        """Add the result for every entry that has none."""
        for active, sink in entries:
            if active.job.run_id not in self._answered:
                sink.close()
                self.add(active, sink, result)

    def flush(self) -> None:
        with self._lock:
            entries, self._entries = self._entries, []
        if entries:
            self._complete(entries)

    def flush_aside(self) -> None:
        """Flush on a thread of its own: who watches over a call must not wait for the database."""
        if self._entries:
            threading.Thread(target=self.flush, name="finish-aside", daemon=True).start()
