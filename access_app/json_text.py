"""JSON texts as RFC 8259 means them: one reading for request bodies, forms and command lines."""

from __future__ import annotations

import json
import math
from typing import Any

from django.utils.translation import gettext as _

MAX_DEPTH = 50
LONGEST_INTEGER = 300


class JSONFault(ValueError):
    """A text that is JSON, but that nobody can mean or store; `name` is the name that an object gives twice."""

    def __init__(self, problem: str, name: str = "") -> None:
        self.problem, self.name = problem, name
        super().__init__(f"{name}: {problem}" if name else problem)


class NotJSON(JSONFault):
    """A text that cannot be read as JSON at all."""


def loads(text: str) -> Any:
    """The value of the text.

    Raises NotJSON for a syntax error, NaN, Infinity and nesting that exhausts the stack (what is shallower is for
    `is_too_deep`); JSONFault for a name given twice and a number that is too large.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        place = {"problem": error.msg, "line": error.lineno, "column": error.colno}
        raise NotJSON(_("This is not valid JSON: %(problem)s at line %(line)d, column %(column)d.") % place) from error
    except RecursionError as error:
        raise NotJSON(too_deep()) from error


def is_too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Whether objects and arrays lie in one another more than `levels` deep; walks without recursion."""
    stack = [(value, 1)]
    while stack:
        item, level = stack.pop()
        if not isinstance(item, dict | list | tuple):
            continue
        if level > levels:
            return True
        stack.extend((child, level + 1) for child in (item.values() if isinstance(item, dict) else item))
    return False


def too_deep() -> str:
    return _("This is nested more than %(n)d levels deep.") % {"n": MAX_DEPTH}


def shown(name: str) -> str:
    """The name with what no answer can carry replaced."""
    return name.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _value in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise JSONFault(_("This field is given twice."), shown(twice))
    return found


def _refuse_constant(name: str) -> float:
    raise NotJSON(_("%(name)s is not a JSON value.") % {"name": name})


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JSONFault(_("A number is too large."))
    return value


def _integer(text: str) -> int:
    # Far beyond any column; and Python takes a time that grows with the square of the digits.
    if len(text) > LONGEST_INTEGER:
        raise JSONFault(_("A number is too large."))
    return int(text)
