"""Text of unknown origin on somebody's terminal."""

from __future__ import annotations

import re

# Colours stay; any other escape sequence or control character of a run must not drive the reader's terminal.
_UNSAFE = re.compile(
    r"(\x1b\[[0-9;:]*m)|\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def terminal_text(text: str) -> str:
    """The text with nothing left in it that acts on a terminal, except colours."""
    return _UNSAFE.sub(lambda found: found[1] or "", text)
