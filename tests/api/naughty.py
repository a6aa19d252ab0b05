"""Texts that break programs, written for this project: tests/data/naughty_strings.json, and some that are long."""

from __future__ import annotations

import json
from pathlib import Path

KINDS: dict[str, list[str]] = json.loads(
    (Path(__file__).parent.parent / "data" / "naughty_strings.json").read_text(encoding="utf-8")
)
LONG = ["x" * 10_000, "\U0001f600" * 300, "e\u0301" * 2_000, "<nx-tag>" * 500, "a " * 5_000, "\u202e" * 201]
TEXTS = [text for texts in KINDS.values() for text in texts] + LONG
MARKUP = KINDS["markup"]


def storable(text: str) -> bool:
    """Whether a database can hold the text at all."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)
