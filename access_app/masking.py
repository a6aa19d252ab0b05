"""Values that must not be seen, replaced by `***` in text, in JSON values and in streams of output. Pure.

A value is known in the forms in which programs usually show it: as it is, quoted, escaped, in base64, hexadecimal or
percent signs. A value of several lines is masked line by line, so that no form has a line end in it, and a line of
output can be passed on as soon as it is whole.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
# What is shorter is a word or a number that stands everywhere.
LEAST_BYTES = 6
# base64(1), openssl and MIME break lines after so many characters.
_WRAPS = (64, 76)
# A line without an end is looked at when so much of it has come.
_MOST_HELD = 64 * 1024
_MASK = MASK.encode()
_HEX = re.compile("%[0-9A-F]{2}")
Span = tuple[int, int]


class Masks:
    """The forms of some values. Never changed; any number of threads and streams may share one."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {form for value in values for form in _forms(value)}
        self._forms = tuple(sorted((form for form in found if len(form) >= LEAST_BYTES), key=len, reverse=True))
        # How much of a stream may be the beginning of something that is not whole yet.
        self.reach = max((len(form) for form in self._forms), default=1) - 1

    def __bool__(self) -> bool:
        return bool(self._forms)

    def data(self, data: bytes) -> bytes:
        """The bytes with every form replaced."""
        return self.replaced(data, self.spans(data), len(data))[0]

    def text(self, text: str) -> str:
        raw = text.encode("utf-8", "surrogatepass")
        spans = self.spans(raw)
        return self.replaced(raw, spans, len(raw))[0].decode("utf-8", "surrogatepass") if spans else text

    def json(self, value: Any) -> Any:
        """The JSON value with every form replaced: in strings, in names, and in numbers that are one."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            return MASK if self.spans(repr(value).encode()) else value
        if isinstance(value, list | tuple):
            return [self.json(item) for item in value]
        if isinstance(value, dict):
            return {self.text(str(key)): self.json(item) for key, item in value.items()}
        return value

    def spans(self, data: bytes) -> list[Span]:
        """Where forms are, in order; those that overlap are one."""
        found: list[Span] = []
        for form in self._forms:
            start = data.find(form)
            while start >= 0:
                found.append((start, start + len(form)))
                start = data.find(form, start + 1)
        return _merged(found) if found else found

    @staticmethod
    def replaced(data: bytes, spans: Sequence[Span], upto: int, covered: int = 0) -> tuple[bytes, int]:
        """The first `upto` bytes with the spans replaced, and how many bytes after them belong to a span that began
        before. The first `covered` bytes were replaced already."""
        parts, end = [], 0
        for start, stop in _merged([(0, covered), *spans]) if covered else spans:
            if start >= upto:
                break
            parts.append(data[end:start])
            if not (covered and start == 0):
                parts.append(_MASK)
            end = stop
        parts.append(data[end:upto])
        return b"".join(parts), max(end - upto, 0)


_made: weakref.WeakValueDictionary[tuple[str, ...], Masks] = weakref.WeakValueDictionary()
_making = threading.Lock()


def masks_of(values: Iterable[str]) -> Masks | None:
    """The masks of these values, the same ones for the same values; None where nothing is to be masked."""
    key = tuple(sorted(set(values)))
    if not key:
        return None
    with _making:
        masks = _made.get(key)
        if masks is None:
            masks = _made[key] = Masks(key)
    return masks or None


class MaskedStream:
    """One stream of bytes, cut anywhere, with every form replaced. A line is passed on when it is whole; of one without
    an end only as much is kept back as a form can be long, once more has come than is worth waiting for."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._held = bytearray()
        # How much at the beginning of what is held was replaced already.
        self._covered = 0
        self._most = masks.reach + _MOST_HELD

    def feed(self, data: bytes) -> bytes:
        """Take raw bytes; gives what can be passed on by now."""
        end = data.rfind(b"\n") + 1
        if end:
            whole = bytes(self._held) + data[:end]
            passed, _rest = self._masks.replaced(whole, self._masks.spans(whole), len(whole), self._covered)
            self._held[:] = data[end:]
            self._covered = 0
        else:
            passed = b""
            self._held += data
        return passed + self._shortened() if len(self._held) > self._most else passed

    def finish(self) -> bytes:
        """What is left, at the end of the stream."""
        held, covered = bytes(self._held), self._covered
        self._held.clear()
        self._covered = 0
        return self._masks.replaced(held, self._masks.spans(held), len(held), covered)[0]

    def _shortened(self) -> bytes:
        held = bytes(self._held)
        upto = len(held) - self._masks.reach
        passed, self._covered = self._masks.replaced(held, self._masks.spans(held), upto, self._covered)
        self._held[:] = held[upto:]
        return passed


class Known:
    """The masks of all that is under way in this process, for what is written on behalf of none of it: the log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._masks: dict[int, tuple[Masks, int]] = {}

    def add(self, masks: Masks) -> None:
        with self._lock:
            self._masks[id(masks)] = (masks, self._masks.get(id(masks), (masks, 0))[1] + 1)

    def discard(self, masks: Masks) -> None:
        with self._lock:
            known, times = self._masks.pop(id(masks), (masks, 0))
            if times > 1:
                self._masks[id(masks)] = (known, times - 1)

    def text(self, text: str) -> str:
        if self._masks:
            with self._lock:
                all_masks = [masks for masks, _times in self._masks.values()]
            for masks in all_masks:
                text = masks.text(text)
        return text


known = Known()


def _forms(value: str) -> Iterator[bytes]:
    yield from _encoded(value)
    for line in value.splitlines():
        if (stripped := line.strip()) != value:
            yield from _encoded(stripped)
    try:
        password = urlsplit(value).password
    except ValueError:
        password = None
    if password:
        # Of a connection, which is shown without it or in other words.
        yield from _encoded(password)
        yield from _encoded(unquote(password))


def _encoded(value: str) -> Iterator[bytes]:
    if len(value.encode()) < LEAST_BYTES:
        return
    quoted = {quote(value), quote(value, safe=""), quote(value, safe="!'()*"), quote_plus(value)}
    texts = {value, *quoted, *(_HEX.sub(lambda found: found[0].lower(), text) for text in quoted)}
    texts |= {repr(value)[1:-1], html.escape(value), value.replace("'", "'\\''"), value.replace("'", "'\"'\"'")}
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        texts |= {escaped, escaped.replace("/", "\\/"), json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]}
    yield from (text.encode() for text in texts if "\n" not in text and "\r" not in text)
    raw = value.encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield from _base64(raw)


def _base64(raw: bytes) -> Iterator[bytes]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for data in (raw, raw + b"\n"):
            whole = encode(data)
            yield whole
            for width in _WRAPS if len(whole) > min(_WRAPS) else ():
                yield from (whole[start : start + width] for start in range(0, len(whole), width))
        # In the middle of something longer, such as user:password: the characters that are the value's alone.
        for before in range(3):
            first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
            yield encode(bytes(before) + raw)[first:last]


def _merged(spans: list[Span]) -> list[Span]:
    spans.sort()
    merged: list[Span] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
