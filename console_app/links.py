"""Query strings: the same filter with one thing changed."""

from __future__ import annotations

from collections.abc import Container, Iterable

from django.http import QueryDict


def with_query(query: QueryDict, **changes: str | int | None) -> QueryDict:
    """A copy of the query with these values set, or removed where None."""
    changed = query.copy()
    for name, value in changes.items():
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = str(value)
    return changed


def without_blanks(query: QueryDict) -> QueryDict:
    """A copy without empty values: a URL worth keeping."""
    kept = query.copy()
    for name in list(kept):
        values = [value for value in kept.getlist(name) if value]
        if values:
            kept.setlist(name, values)
        else:
            del kept[name]
    return kept


def kept(query: QueryDict, filters: Iterable[str], controls: Container[str]) -> list[tuple[str, str]]:
    """Name and value of each filter in the query that a form has no control for: it sends them on as hidden fields."""
    return [(name, value) for name in filters if name not in controls for value in query.getlist(name)]


def number(query: QueryDict, name: str) -> int | None:
    """A whole number that fits a key, or None for anything else."""
    text = query.get(name) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
