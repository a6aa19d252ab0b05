"""Output of a run: lines with time and stream, capped, written in batches while the run goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from access_app.masking import MaskedStream, Masks
from tasks_app.models import RunOutput
from tasks_app.run_output import MAX_BATCH_LINES
from tasks_app.texts import storable, storable_json
from workers_app.lines import LINE_OVERHEAD, LastLine, Line, LineBuffer, Tail, now_text

STDOUT, STDERR, SYSTEM = "stdout", "stderr", "system"
LAST_WORDS = 4096
Row = dict[str, Any]


class OutputSink:
    """Collects the output of one attempt; memory stays below the two caps whatever is thrown at it.

    The first half of the cap is passed on at once; after that the newest output is kept back raw, up to the other half,
    and comes at the end behind a marker that says how much was left out. `last_json` is the object or list in the last
    line of stdout, once closed. Nothing that `masks` hide gets further than here.
    """

    def __init__(self, run_id: int, attempt: int, masks: Masks | None = None) -> None:
        self.run_id, self.attempt = run_id, attempt
        self._masks = masks
        self._masked: dict[str, MaskedStream] = {}
        self._lock = threading.Lock()
        self._partial: dict[str, LineBuffer] = {}
        self._pending: list[Line] = []
        self._head_left = settings.SCHEDULER_OUTPUT_BYTES // 2
        self._tail = Tail(settings.SCHEDULER_OUTPUT_BYTES - self._head_left, settings.SCHEDULER_LINE_BYTES)
        self._last = LastLine()
        # The end of stderr, raw: why a program failed.
        self.last_words = b""
        # Bytes of text handed on so far.
        self.size = 0
        self._next_line = 0
        self._truncated_from: int | None = None

    @property
    def last_json(self) -> Any:
        return _json_line(self._last.text)

    def feed(self, stream: str, data: bytes) -> None:
        """Take raw bytes of a stream; lines may be cut anywhere."""
        with self._lock:
            if self._masks is not None:
                masked = self._masked.get(stream) or self._masked.setdefault(stream, MaskedStream(self._masks))
                data = masked.feed(data)
            self._take(stream, data)

    def _take(self, stream: str, data: bytes) -> None:
        if stream == STDOUT:
            self._last.feed(data)
        else:
            self.last_words = (self.last_words + data[-LAST_WORDS:])[-LAST_WORDS:]
        if self._head_left > 0:
            data = self._fill_head(stream, data)
        if data:
            self._tail.add(stream, data)

    def note(self, text: str) -> None:
        """Add a line of our own, such as why the run was ended."""
        text = text if self._masks is None else self._masks.text(text)
        with self._lock:
            if not self._into_head(SYSTEM, storable(text)):
                self._tail.add(SYSTEM, text.encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        """Take what has no newline at its end, then the tail."""
        with self._lock:
            for stream, masked in self._masked.items():
                self._take(stream, masked.finish())
            self._last.finish()
            for stream, buffer in self._partial.items():
                if (rest := buffer.finish()) is not None and not self._into_head(stream, rest):
                    self._tail.add(stream, rest.encode())
            self._partial.clear()
            lines, left_out = self._tail.take()
            if left_out:
                self._truncated_from = self._next_line + len(self._pending)
                self._pending.append((now_text(), SYSTEM, f"… {left_out:,} bytes of output were left out here …"))
            self._pending.extend(lines)

    def drain(self) -> list[Row]:
        """The lines not yet drained, as rows for `store`."""
        with self._lock:
            lines, self._pending = self._pending, []
            rows = []
            for start in range(0, len(lines), MAX_BATCH_LINES):
                part = lines[start : start + MAX_BATCH_LINES]
                first = self._next_line
                self.size += sum(len(text) for _at, _stream, text in part)
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

    def _fill_head(self, stream: str, data: bytes) -> bytes:
        """Take whole lines while they fit; the rest of the data once they do not."""
        buffer = self._partial.get(stream)
        if buffer is None:
            buffer = self._partial[stream] = LineBuffer(settings.SCHEDULER_LINE_BYTES)
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            text = buffer.line(data[start:end])
            start = end + 1
            if not self._into_head(stream, text):
                return self._leave_head(stream, text.encode() + b"\n" + data[start:])
        buffer.hold(data[start:])
        return b""

    def _into_head(self, stream: str, text: str) -> bool:
        size = len(text) + LINE_OVERHEAD
        if self._head_left < size:
            self._head_left = 0
            return False
        self._head_left -= size
        self._pending.append((now_text(), stream, text))
        return True

    def _leave_head(self, stream: str, data: bytes) -> bytes:
        """From now on output is kept raw; what the other stream has begun to say goes along."""
        for other, buffer in self._partial.items():
            if other != stream and (begun := buffer.finish()) is not None:
                self._tail.add(other, begun.encode())
        self._partial.clear()
        return data


def store(rows: Sequence[Row]) -> None:
    """Write drained rows of any number of runs in one statement."""
    if rows:
        RunOutput.objects.bulk_create([RunOutput(**row) for row in rows], ignore_conflicts=True, batch_size=500)


def parse_json(text: str | bytes) -> Any:
    """The JSON value, when it can also be stored. Raises ValueError: for NaN, infinite numbers, too deep nesting."""
    try:
        value = json.loads(text)
        # 1e999 is read as infinite; and what Python nests too deep for itself, the database refuses as well.
        json.dumps(value, allow_nan=False)
        return storable_json(value)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _json_line(text: str) -> Any:
    """The object or list that a line holds, if it holds one; plain words and numbers are not taken for a result."""
    text = text.strip()
    if text[:1] not in ("{", "["):
        return None
    try:
        return parse_json(text)
    except ValueError:
        return None
