"""Output of a run: lines with time and stream, capped, written in batches while the run goes on."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from tasks_app.models import RunOutput
from tasks_app.queries import MAX_BATCH_LINES
from tasks_app.texts import storable

STDOUT, STDERR, SYSTEM = "stdout", "stderr", "system"
MAX_OUTPUT_JSON = 64 * 1024
# A line costs its time and stream as well; without counting them a flood of empty lines would be free.
_LINE_OVERHEAD = 24
Line = tuple[str, str, str]
Row = dict[str, Any]


class OutputSink:
    """Collects the output of one attempt; memory stays below the two caps whatever is thrown at it.

    The first half of the cap is passed on at once; after that the newest lines are kept back, up to the other half,
    and come at the end behind a marker that says how much was left out.
    """

    def __init__(self, run_id: int, attempt: int) -> None:
        self.run_id, self.attempt = run_id, attempt
        self.last_json: Any = None
        self._lock = threading.Lock()
        self._partial: dict[str, _LineBuffer] = {}
        self._pending: list[Line] = []
        self._tail: deque[Line] = deque()
        self._head_left = settings.SCHEDULER_OUTPUT_BYTES // 2
        self._tail_left = settings.SCHEDULER_OUTPUT_BYTES - self._head_left
        self._left_out = 0
        self._next_line = 0
        self._truncated_from: int | None = None

    def feed(self, stream: str, data: bytes) -> None:
        """Take raw bytes of a stream; lines may be cut anywhere."""
        with self._lock:
            buffer = self._partial.get(stream)
            if buffer is None:
                buffer = self._partial[stream] = _LineBuffer(settings.SCHEDULER_LINE_BYTES)
            for text in buffer.feed(data):
                self._take(stream, text)

    def note(self, text: str) -> None:
        """Add a line of our own, such as why the run was ended."""
        with self._lock:
            self._take(SYSTEM, text)

    def close(self) -> None:
        """Take what has no newline at its end, then the tail."""
        with self._lock:
            for stream, buffer in self._partial.items():
                if (rest := buffer.finish()) is not None:
                    self._take(stream, rest)
            self._partial.clear()
            if self._left_out:
                self._truncated_from = self._next_line + len(self._pending)
                self._pending.append((_now(), SYSTEM, f"… {self._left_out:,} bytes of output were left out here …"))
            self._pending.extend(self._tail)
            self._tail.clear()

    def drain(self) -> list[Row]:
        """The lines not yet drained, as rows for `store`."""
        with self._lock:
            lines, self._pending = self._pending, []
            rows = []
            for start in range(0, len(lines), MAX_BATCH_LINES):
                part = lines[start : start + MAX_BATCH_LINES]
                first = self._next_line
                truncated = self._truncated_from is not None and first <= self._truncated_from < first + len(part)
                rows.append(
                    {
                        "run_id": self.run_id,
                        "attempt": self.attempt,
                        "first_line": first,
                        "line_count": len(part),
                        "lines": part,
                        "truncated": truncated,
                    }
                )
                self._next_line += len(part)
            return rows

    def _take(self, stream: str, text: str) -> None:
        if stream == STDOUT and text.strip():
            self.last_json = _json_line(text)
        text = storable(text)
        size = len(text) + _LINE_OVERHEAD
        if self._head_left >= size:
            self._head_left -= size
            self._pending.append((_now(), stream, text))
            return
        self._head_left = 0
        self._tail.append((_now(), stream, text))
        self._tail_left -= size
        while self._tail_left < 0 and self._tail:
            dropped = len(self._tail.popleft()[2]) + _LINE_OVERHEAD
            self._tail_left += dropped
            self._left_out += dropped


class _LineBuffer:
    """Cuts a byte stream into lines of at most `limit` bytes each; the rest of a longer line is counted, not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._over = 0

    def feed(self, data: bytes) -> Iterable[str]:
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._hold(piece)
            yield self._line()
        self._hold(rest)

    def finish(self) -> str | None:
        return self._line() if self._held or self._over else None

    def _hold(self, piece: bytes) -> None:
        room = self._limit - len(self._held)
        self._held += piece[:room]
        self._over += max(len(piece) - room, 0)

    def _line(self) -> str:
        text = bytes(self._held).decode("utf-8", "replace").removesuffix("\r")
        if self._over:
            text += f" … {self._over:,} bytes of this line were left out"
        self._held.clear()
        self._over = 0
        return text


def store(rows: Sequence[Row]) -> None:
    """Write drained rows of any number of runs in one statement."""
    if rows:
        RunOutput.objects.bulk_create([RunOutput(**row) for row in rows], ignore_conflicts=True, batch_size=500)


def _json_line(text: str) -> Any:
    """The object or list that a line holds, if it holds one; plain words and numbers are not taken for a result."""
    text = text.strip()
    if text[:1] not in "{[" or len(text) > MAX_OUTPUT_JSON:
        return None
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
