"""Macros in parameters: `{{ nominal_time }}`, `{{ params.region }}`, `{{ upstream.load.rows }}`. Pure.

Substitution only, into the values of parameters, which reach a process as arguments and environment: never apply it to
the text of a shell command. What was substituted is not looked into again. `{{ "{{" }}` stands for `{{` itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks_app.value_paths import Path, look_up, scan, written
from tasks_app.zones import wall_time

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 50
MAX_NAMES_SHOWN = 20

# What the names of a run begin with; see names_of_run.
ROOTS = frozenset({"nominal_time", "nominal_date", "params", "upstream", "run", "task"})

# The longest text between the braces of a macro.
MAX_MACRO = 500


class MacroError(ValueError):
    """A macro that cannot be replaced; `name` is what stands between the braces, `message` a sentence for people."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


def names_of_run(
    *,
    run_id: int,
    attempt: int,
    run_type: str,
    task: str,
    project: str,
    nominal_at: datetime,
    zone: str,
    params: Mapping[str, Any],
    upstream: Mapping[str, Any],
    shard: tuple[int | None, int | None] = (None, None),
) -> dict[str, Any]:
    """All that macros of a run can name.

    `shard` is which of how many parts the run is.
    `nominal_at` (aware) is its nominal time or, where it has none, the time it was asked for; `nominal_date` is its
    date in `zone`. `upstream` maps names of upstream tasks to the outputs of their runs.
    """
    return {
        "nominal_time": nominal_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "nominal_date": wall_time(zone, nominal_at).date().isoformat(),
        "params": params,
        "upstream": upstream,
        "run": {
            "id": run_id,
            "attempt": attempt,
            "type": run_type,
            "shard_index": shard[0] or 0,
            "shard_total": shard[1] or 1,
        },
        "task": {"name": task, "project": project},
    }


def expand(value: Any, names: Mapping[str, Any]) -> Any:
    """The JSON value with every macro in its strings replaced; keys of objects stay as they are.

    A string that is exactly one macro becomes the value itself, with its type; inside other text stands its text.
    Raises MacroError for an unknown name, null or a structure inside a text, and a result of more than 256 KiB.
    """
    return _Expansion(names).of(value, 0)


def references(value: Any) -> frozenset[Path]:
    """The paths that macros in the value name, to be checked when it is saved. Raises MacroError for bad syntax."""
    found: set[Path] = set()
    for text in _strings(value, 0):
        for macro in _macros(text):
            if macro.literal is None:
                found.add(_path(macro.inner))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Macro:
    """`inner` is what stands between the braces, from `start` to `end`."""

    inner: str
    start: int
    end: int

    @property
    def literal(self) -> str | None:
        quoted = len(self.inner) >= 2 and self.inner[0] == self.inner[-1] == '"' and '"' not in self.inner[1:-1]
        return self.inner[1:-1] if quoted else None


class _Expansion:
    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._room = MAX_CHARACTERS

    def of(self, value: Any, depth: int) -> Any:
        _require_shallow(depth)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, Mapping):
            return {key: self.of(item, depth + 1) for key, item in value.items()}
        return value

    def _text(self, text: str) -> Any:
        macros = _macros(text)
        if not macros:
            self._take(len(text))
            return text
        if len(macros) == 1 and macros[0].end - macros[0].start == len(text):
            value = self._value(macros[0])
            self._take(_size(value, macros[0]))
            return value
        parts: list[str] = []
        end = 0
        for macro in macros:
            parts += [text[end : macro.start], self._inside_text(macro)]
            self._take(len(parts[-2]) + len(parts[-1]))
            end = macro.end
        self._take(len(text) - end)
        return "".join(parts) + text[end:]

    def _value(self, macro: _Macro) -> Any:
        if macro.literal is not None:
            return macro.literal
        path = _path(macro.inner)
        found, value = look_up(self._names, path)
        if not found:
            raise MacroError(written(path), _unknown(self._names, path))
        return value

    def _inside_text(self, macro: _Macro) -> str:
        value = self._value(macro)
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            return json.dumps(value)
        what = "null" if value is None else "a list or an object"
        # An empty text in a path or an address would silently name something else.
        raise MacroError(macro.inner, f"{macro.inner!a} is {what}, which cannot stand inside other text.")

    def _take(self, characters: int) -> None:
        self._room -= characters
        if self._room < 0:
            raise MacroError("", f"With its macros replaced the value has more than {MAX_CHARACTERS} characters.")


def _macros(text: str) -> list[_Macro]:
    """Every macro in order. Raises MacroError for braces that open none."""
    macros: list[_Macro] = []
    position = 0
    while (opening := text.find("{{", position)) >= 0:
        closing = text.find("}}", opening + 2, opening + 2 + MAX_MACRO)
        if closing < 0:
            shown = text[opening : opening + 40]
            raise MacroError(shown, f"{shown!a} opens a macro that no '}}}}' closes within {MAX_MACRO} characters.")
        macros.append(_Macro(text[opening + 2 : closing].strip(), opening, closing + 2))
        position = closing + 2
    return macros


def _path(name: str) -> Path:
    found = scan(name, 0)
    if found is None or found[1] != len(name):
        raise MacroError(
            name, f"{name[:100]!a} is no name; names are written like params.region or upstream.load.rows."
        )
    return found[0]


def _unknown(names: Mapping[str, Any], path: Path) -> str:
    """The sentence for an unknown name: how far the path leads, and what there is."""
    known: Path = ()
    for length in range(1, len(path)):
        if not look_up(names, path[:length])[0]:
            break
        known = path[:length]
    inside = look_up(names, known)[1] if known else names
    if isinstance(inside, Mapping) and inside:
        keys = sorted(written((*known, str(key))) for key in inside)
        there = ", ".join(keys[:MAX_NAMES_SHOWN]) + (", …" if len(keys) > MAX_NAMES_SHOWN else "")
        return f"{written(path)} is unknown; there are {there}."
    kind = f"a list of {len(inside)}" if isinstance(inside, list) else "empty" if inside == {} else "a single value"
    return f"{written(path)} is unknown; {written(known)} is {kind}."


def _size(value: Any, macro: _Macro) -> int:
    if isinstance(value, str):
        return len(value)
    try:
        return len(json.dumps(value))
    except RecursionError:
        raise MacroError(macro.inner, f"{macro.inner!a} is nested too deeply.") from None


def _strings(value: Any, depth: int) -> Iterator[str]:
    _require_shallow(depth)
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item, depth + 1)


def _require_shallow(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MacroError("", f"The value is more than {MAX_DEPTH} levels deep.")
