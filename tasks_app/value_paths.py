"""Paths into JSON values, as conditions and macros write them: `output.rows`, `params["a key"]`, `output.items[0].id`.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Path = tuple[str | int, ...]

NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_STEP = re.compile(rf'\.({NAME}|\d{{1,9}})|\[(-?\d{{1,9}})\]|\["([^"\\]{{1,200}})"\]', re.ASCII)
_START = re.compile(NAME, re.ASCII)


def scan(text: str, position: int) -> tuple[Path, int] | None:
    """The longest path that begins at `position` and where it ends, or None when there is none."""
    start = _START.match(text, position)
    if start is None:
        return None
    steps: list[str | int] = [start[0]]
    position = start.end()
    while found := _STEP.match(text, position):
        name, index, quoted = found.groups()
        if index is not None:
            steps.append(int(index))
        else:
            steps.append(name if name is not None else quoted)
        position = found.end()
    return tuple(steps), position


def look_up(values: Any, path: Path) -> tuple[bool, Any]:
    """Whether the path leads to a value, and the value. Numbers count items of a list, from the end if negative."""
    for step in path:
        if isinstance(values, Mapping):
            if str(step) not in values:
                return False, None
            values = values[str(step)]
        elif isinstance(values, list) and (index := _index(step)) is not None:
            if not -len(values) <= index < len(values):
                return False, None
            values = values[index]
        else:
            return False, None
    return True, values


def written(path: Path) -> str:
    """The path as it is typed."""
    text = str(path[0])
    for step in path[1:]:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if re.fullmatch(rf"{NAME}|\d{{1,9}}", step, re.ASCII) else f'["{step}"]'
    return text


def _index(step: str | int) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if step.isascii() and step.isdigit() and len(step) <= 9 else None
