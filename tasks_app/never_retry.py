"""Failures after which trying again is no use, as people write them. Pure.

`{"exit_codes": [2], "exceptions": ["ValueError", "shop.errors.Refused"], "statuses": ["404", "4xx"]}`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MAX_ENTRIES = 100
_STATUS = re.compile(r"[1-5](?:\d\d|xx)", re.ASCII)
_CLASS = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


class NeverRetryError(ValueError):
    """Rules that nobody can mean; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class NeverRetry:
    """The rules, ready to be asked; see `tasks_app.retry.is_final`."""

    exit_codes: frozenset[int] = frozenset()
    exceptions: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()


def parse(rules: Any) -> NeverRetry:
    """Read the rules. Raises NeverRetryError for anything that would never apply."""
    if not isinstance(rules, dict):
        raise NeverRetryError("Give an object with exit_codes, exceptions and statuses.")
    unknown = rules.keys() - {"exit_codes", "exceptions", "statuses"}
    if unknown:
        raise NeverRetryError(
            f"{min(map(str, unknown))[:50]!a} is unknown; there are exit_codes, exceptions, statuses."
        )
    for name, entries in rules.items():
        if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
            raise NeverRetryError(f"{name} is a list of at most {MAX_ENTRIES} entries.")
    return NeverRetry(
        frozenset(_exit_code(entry) for entry in rules.get("exit_codes", ())),
        frozenset(_class_name(entry) for entry in rules.get("exceptions", ())),
        frozenset(_status(entry) for entry in rules.get("statuses", ())),
    )


def _exit_code(entry: Any) -> int:
    # Negative: ended by that signal.
    if not isinstance(entry, int) or isinstance(entry, bool) or not -64 <= entry <= 255 or entry == 0:
        raise NeverRetryError(f"{_shown(entry)} is no exit code of a failure: 1 to 255, or -1 to -64 for a signal.")
    return entry


def _class_name(entry: Any) -> str:
    if not isinstance(entry, str) or len(entry) > 200 or not _CLASS.fullmatch(entry):
        raise NeverRetryError(f"{_shown(entry)} is no name of an exception, such as ValueError or shop.errors.Refused.")
    return entry


def _status(entry: Any) -> str:
    text = str(entry) if isinstance(entry, int) and not isinstance(entry, bool) else entry
    if not isinstance(text, str) or not _STATUS.fullmatch(text):
        raise NeverRetryError(f"{_shown(entry)} is no HTTP status, such as 404 or 4xx.")
    return text


def _shown(entry: Any) -> str:
    return f"{entry!a}"[:60]
