"""Cutting raw output into lines without keeping more of it than will be shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime

from tasks_app.texts import storable

MAX_OUTPUT_JSON = 64 * 1024
# A line costs its time and stream as well; without counting them a flood of empty lines would be free.
LINE_OVERHEAD = 24
_PIECE_OVERHEAD = 100
Line = tuple[str, str, str]


class LineBuffer:
    """Cuts a byte stream into lines of at most `limit` bytes each; the rest of a longer line is counted, not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._over = 0

    def hold(self, piece: bytes) -> None:
        """Take part of a line."""
        room = self._limit - len(self._held)
        self._held += piece[:room]
        self._over += max(len(piece) - room, 0)

    def line(self, piece: bytes) -> str:
        """Take the last part of a line and give the whole."""
        self.hold(piece)
        text = storable(self._held.decode("utf-8", "replace").removesuffix("\r"))
        if self._over:
            text += f" … {self._over:,} bytes of this line were left out"
        self._held.clear()
        self._over = 0
        return text

    def finish(self) -> str | None:
        return self.line(b"") if self._held or self._over else None


class Tail:
    """The newest output, raw: cutting a flood into lines that are thrown away next would cost seconds per megabyte."""

    def __init__(self, budget: int, line_bytes: int) -> None:
        self._line_bytes = line_bytes
        self._budget = self._left = budget
        self._pieces: deque[tuple[str, str, bytearray]] = deque()
        self._left_out = 0
        # Streams whose oldest piece begins in the middle of a line.
        self._torn: set[str] = set()

    def add(self, stream: str, data: bytes) -> None:
        """Take raw bytes, dropping the oldest when they grow beyond the budget."""
        if len(data) > self._budget:
            self._pieces.append((now_text(), stream, bytearray(data[: -self._budget])))
            self._left -= _PIECE_OVERHEAD + _cost(data[: -self._budget])
            data = data[-self._budget :]
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last[1] == stream and len(last[2]) + len(data) <= _PIECE_OVERHEAD:
            last[2].extend(data)
        else:
            self._pieces.append((now_text(), stream, bytearray(data)))
            self._left -= _PIECE_OVERHEAD
        self._left -= _cost(data)
        while self._left < 0 and len(self._pieces) > 1:
            self._drop(*self._pieces.popleft())

    def take(self) -> tuple[list[Line], int]:
        """The lines kept, and how many bytes before them were not."""
        lines: deque[Line] = deque()
        left = self._budget
        for line in self._lines():
            lines.append(line)
            left -= len(line[2]) + LINE_OVERHEAD
            while left < 0:
                text = lines.popleft()[2]
                left += len(text) + LINE_OVERHEAD
                self._left_out += len(text) + 1
        self._pieces.clear()
        return list(lines), self._left_out

    def _lines(self) -> Iterable[Line]:
        buffers: dict[str, LineBuffer] = {}
        at = ""
        for at, stream, raw in self._pieces:
            buffer = buffers.setdefault(stream, LineBuffer(self._line_bytes))
            *whole, rest = self._mended(stream, bytes(raw)).split(b"\n")
            for piece in whole:
                yield at, stream, buffer.line(piece)
            buffer.hold(rest)
        for stream, buffer in buffers.items():
            if (text := buffer.finish()) is not None:
                yield at, stream, text

    def _mended(self, stream: str, raw: bytes) -> bytes:
        """The piece without what remains of a line whose beginning was dropped."""
        if stream not in self._torn:
            return raw
        torn, newline, rest = raw.partition(b"\n")
        self._left_out += len(torn) + len(newline)
        if newline:
            self._torn.discard(stream)
        return rest

    def _drop(self, _at: str, stream: str, raw: bytearray) -> None:
        self._left += _PIECE_OVERHEAD + _cost(raw)
        self._left_out += len(raw)
        if raw.endswith(b"\n"):
            self._torn.discard(stream)
        else:
            self._torn.add(stream)


class LastLine:
    """The last line of a stream that is not blank, when it is at most MAX_OUTPUT_JSON bytes long."""

    def __init__(self) -> None:
        self._line = b""
        self._partial = bytearray()

    @property
    def text(self) -> str:
        return self._line.decode("utf-8", "replace")

    def feed(self, data: bytes) -> None:
        """Take raw bytes of the stream."""
        whole, newline, rest = data.rpartition(b"\n")
        if newline:
            whole = whole.rstrip()
            if (cut := whole.rfind(b"\n")) >= 0:
                self._keep(whole[cut + 1 :])
            else:
                self._hold(whole)
                self.finish()
            self._partial.clear()
        self._hold(rest)

    def finish(self) -> None:
        """The line under way is whole."""
        if self._partial.strip():
            self._keep(bytes(self._partial))
        self._partial.clear()

    def _hold(self, piece: bytes) -> None:
        # One byte more than is allowed shows that the line is too long.
        self._partial += piece[: MAX_OUTPUT_JSON + 1 - len(self._partial)]

    def _keep(self, line: bytes) -> None:
        self._line = line if len(line) <= MAX_OUTPUT_JSON else b""


def _cost(data: bytes | bytearray) -> int:
    return len(data) + LINE_OVERHEAD * data.count(b"\n")


def now_text() -> str:
    """The time as it stands beside a line: UTC, to the microsecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
