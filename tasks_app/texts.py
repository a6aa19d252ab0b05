"""Making any text or JSON value fit to be stored: PostgreSQL takes neither NUL nor lone surrogates nor NaN."""

from __future__ import annotations

import math
from typing import Any


def storable(text: str) -> str:
    """The text with NUL and lone surrogates replaced by U+FFFD."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def storable_json(value: Any) -> Any:
    """The JSON value with every string in it made storable, and null for numbers that JSON does not have."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [storable_json(item) for item in value]
    if isinstance(value, dict):
        return {storable(str(key)): storable_json(item) for key, item in value.items()}
    return value


def clipped(text: str, limit: int) -> str:
    """The text, at most `limit` characters long, an ellipsis telling that it was longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
