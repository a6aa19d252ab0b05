"""Pure: coloured terminal output as safe HTML. Colours become classes; every other control sequence is dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

# CSI, then OSC / DCS / SOS / PM / APC with their text up to BEL or ST, then any two-byte escape, then a lone ESC.
# The string sequences end at the end of the line at the latest: an unclosed one must not swallow what follows it.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<params>[0-?]*)[ -/]*(?P<final>[@-~]?)"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_ANCHORS = (
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
)
_CUBE = (0, 95, 135, 175, 215, 255)


@dataclass(frozen=True)
class Style:
    """What the text looks like from here on; colours are names of the eight terminal colours or None."""

    foreground: str | None = None
    background: str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False

    def classes(self) -> str:
        flags = ((self.bold, "bold"), (self.dim, "dim"), (self.italic, "italic"), (self.underline, "underline"))
        names = [f"sgr-{name}" for on, name in flags if on]
        if self.foreground:
            names.append(f"sgr-{self.foreground}")
        if self.background:
            names.append(f"sgr-on-{self.background}")
        return " ".join(names)


_PLAIN = Style()


def render(text: str) -> SafeString:
    """One line of output as HTML: escaped, coloured by spans with `sgr-…` classes, without any other escape."""
    parts = [
        f'<span class="{classes}">{escape(piece)}</span>' if (classes := style.classes()) else escape(piece)
        for style, piece in segments(text)
    ]
    return mark_safe("".join(parts))  # noqa: S308  (every piece is escaped, every class is from our own table)


def segments(text: str) -> Iterator[tuple[Style, str]]:
    """Split a line into pieces of one style each; control characters other than tabs are left out."""
    # A carriage return draws over the line (progress bars): what was drawn last is what a reader would see.
    text = text.rstrip("\r\n").rsplit("\r", 1)[-1]
    style, start = _PLAIN, 0
    for match in _SEQUENCE.finditer(text):
        yield from _piece(style, text[start : match.start()])
        start = match.end()
        if match["final"] == "m":
            style = _apply(style, match["params"])
    yield from _piece(style, text[start:])


def _piece(style: Style, text: str) -> Iterator[tuple[Style, str]]:
    cleaned = _CONTROLS.sub("", text)
    if cleaned:
        yield style, cleaned


def _apply(style: Style, params: str) -> Style:
    codes = [int(code) if code.isdigit() else 0 for code in re.split("[;:]", params[:200])]
    position = 0
    while position < len(codes):
        code = codes[position]
        if code in (38, 48):
            color, used = _extended(codes[position + 1 :])
            position += used
            style = replace(style, foreground=color) if code == 38 else replace(style, background=color)
        else:
            style = _simple(style, code)
        position += 1
    return style


_FLAGS: dict[int, dict[str, Any]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
}


def _simple(style: Style, code: int) -> Style:
    if code == 0:
        return _PLAIN
    if code in _FLAGS:
        return replace(style, **_FLAGS[code])
    if 30 <= code <= 37 or 90 <= code <= 97:
        return replace(style, foreground=_NAMES[code % 10])
    if 40 <= code <= 47 or 100 <= code <= 107:
        return replace(style, background=_NAMES[code % 10])
    if code == 39:
        return replace(style, foreground=None)
    if code == 49:
        return replace(style, background=None)
    return style


def _extended(rest: list[int]) -> tuple[str | None, int]:
    """The nearest terminal colour of `5;n` or `2;r;g;b`, and how many codes that took."""
    if rest[:1] == [5] and len(rest) >= 2:
        return _nearest(*_palette(rest[1])), 2
    if rest[:1] == [2] and len(rest) >= 4:
        return _nearest(rest[1], rest[2], rest[3]), 4
    return None, len(rest)


def _palette(number: int) -> tuple[int, int, int]:
    if number < 16:
        return _ANCHORS[number % 8]
    if number < 232:
        cell = number - 16
        return _CUBE[cell // 36 % 6], _CUBE[cell // 6 % 6], _CUBE[cell % 6]
    grey = min(8 + (number - 232) * 10, 255)
    return grey, grey, grey


def _nearest(red: int, green: int, blue: int) -> str:
    def distance(anchor: tuple[int, int, int]) -> int:
        return (anchor[0] - red) ** 2 + (anchor[1] - green) ** 2 + (anchor[2] - blue) ** 2

    return _NAMES[min(range(8), key=lambda index: distance(_ANCHORS[index]))]
