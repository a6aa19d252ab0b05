"""Conditions of edges over the outcome of an upstream run: parsed once, never evaluated as code. Pure.

    state == "succeeded" and output.rows > 0 and not (params.region in ["eu", "us"] or output.partial)

Paths begin with one of ROOTS; one that leads nowhere is null. Only scalars of one type compare: any other comparison is
false, `!=` too (so `output.rows != 5` says that there is a number), save that null is equal to null and nothing else.
`in` looks into a list, for a text in a text, or for a key in an object. A value alone holds unless it is null, false, 0
or empty. `not` binds closest, then the comparisons, `and`, `or`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tasks_app.value_paths import Path, look_up, scan

MAX_LENGTH = 1000
MAX_DEPTH = 20
ROOTS = frozenset({"state", "reason", "exit_code", "attempt", "output", "params"})

_TOKEN = re.compile(
    r"""(?P<number>-?\d{1,30}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?)(?![\w.])
    | (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BLANK = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}
_WORDS = {"and", "or", "not", "in"}
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARISONS = {"==", "!=", "in", *_ORDER}

# Takes the values, gives the value of a part of the condition.
_Part = Callable[[Mapping[str, Any]], Any]


class ConditionError(ValueError):
    """A condition that is refused: `position` counts characters from 0, `message` is a sentence for people."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.message = message
        self.position = position


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition, equal by its text; `paths` are the places that it reads."""

    text: str
    paths: frozenset[Path] = field(compare=False)
    _part: _Part = field(compare=False, repr=False)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds for the values of the roots (see ROOTS). Never raises for any JSON values."""
        return _truth(self._part(values))


def parse(text: str) -> Condition:
    """The condition that the text describes. Raises ConditionError."""
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"The condition has more than {MAX_LENGTH} characters.", MAX_LENGTH)
    parser = _Parser(text)
    part = parser.whole()
    return Condition(text, frozenset(parser.paths), part)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    value: Any
    position: int

    def is_sign(self, *signs: str) -> bool:
        return self.kind == "sign" and self.text in signs


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = _BLANK.match(text).end()  # type: ignore[union-attr]  # matches the empty text too
    while position < len(text):
        token, end = _token(text, position)
        tokens.append(token)
        position = _BLANK.match(text, end).end()  # type: ignore[union-attr]
    return [*tokens, _Token("end", "the end", None, len(text))]


def _token(text: str, position: int) -> tuple[_Token, int]:
    if found := _TOKEN.match(text, position):
        kind, whole = str(found.lastgroup), found[0]
        if kind == "text":
            return _Token(kind, whole, _unescaped(whole[1:-1], position), position), found.end()
        return _Token(kind, whole, _number(whole) if kind == "number" else None, position), found.end()
    if found_path := scan(text, position):
        path, end = found_path
        name = text[position:end]
        if name in _CONSTANTS:
            return _Token("constant", name, _CONSTANTS[name], position), end
        if path[0] in _WORDS:
            word = str(path[0])
            return _Token("sign", word, None, position), position + len(word)
        if path[0] not in ROOTS:
            raise ConditionError(f"{path[0]!a} is unknown; there are {', '.join(sorted(ROOTS))}.", position)
        return _Token("path", name, path, position), end
    if text[position] in "\"'":
        raise ConditionError("The text that begins here is never closed.", position)
    raise ConditionError(f"{text[position]!a} does not belong here.", position)


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _unescaped(text: str, position: int) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPED:
            raise ConditionError(r"Unknown escape; there are \n, \t, \\, \" and \'.", position + 1 + found.start())
        return _ESCAPED[found[1]]

    return _ESCAPE.sub(replaced, text)


class _Parser:
    """Recursive descent; `depth` bounds the recursion here and, with it, that of `holds`."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.paths: set[Path] = set()
        self.at = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def whole(self) -> _Part:
        part = self.any_of()
        if self.token.kind != "end":
            self.refuse("'and', 'or' or the end")
        return part

    def any_of(self) -> _Part:
        return self.chain("or", lambda: self.chain("and", self.negation, _all), _any)

    def chain(self, word: str, inner: Callable[[], _Part], joined: Callable[[list[_Part]], _Part]) -> _Part:
        parts = [inner()]
        while self.token.is_sign(word):
            self.at += 1
            parts.append(inner())
        return parts[0] if len(parts) == 1 else joined(parts)

    def negation(self) -> _Part:
        if not self.token.is_sign("not"):
            return self.comparison()
        self.enter()
        inner = self.negation()
        self.depth -= 1
        return lambda values: not _truth(inner(values))

    def comparison(self) -> _Part:
        left = self.operand()
        sign = self.comparison_sign()
        if sign is None:
            return left
        right = self.operand()
        behind = self.token.position
        if self.comparison_sign() is not None:
            raise ConditionError("Comparisons cannot be chained; join two with 'and'.", behind)
        return lambda values: _compare(sign, left(values), right(values))

    def comparison_sign(self) -> str | None:
        sign = self.token
        if sign.is_sign("not") and self.tokens[self.at + 1].is_sign("in"):
            self.at += 2
            return "not in"
        if sign.is_sign(*_COMPARISONS):
            self.at += 1
            return sign.text
        return None

    def operand(self) -> _Part:
        token = self.token
        if token.is_sign("("):
            self.enter()
            inner = self.any_of()
            self.close(")")
            return inner
        if token.is_sign("["):
            return self.constant_list()
        if token.kind == "path":
            self.at += 1
            self.paths.add(token.value)
            path: Path = token.value
            return lambda values: look_up(values, path)[1]
        value = self.constant()
        return lambda _: value

    def constant_list(self) -> _Part:
        self.enter()
        items: list[Any] = []
        while not self.token.is_sign("]"):
            if items:
                self.expect(",")
            items.append(self.constant())
        self.close("]")
        return lambda _: items

    def constant(self) -> Any:
        if self.token.kind not in ("number", "text", "constant"):
            self.refuse("a value")
        self.at += 1
        return self.tokens[self.at - 1].value

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConditionError(f"More than {MAX_DEPTH} levels deep.", self.token.position)
        self.at += 1

    def close(self, sign: str) -> None:
        self.expect(sign)
        self.depth -= 1

    def expect(self, sign: str) -> None:
        if not self.token.is_sign(sign):
            self.refuse(f"'{sign}'")
        self.at += 1

    def refuse(self, wanted: str) -> NoReturn:
        found = self.token.text if self.token.kind == "end" else ascii(self.token.text[:40])
        raise ConditionError(f"Expected {wanted}, found {found}.", self.token.position)


def _all(parts: list[_Part]) -> _Part:
    return lambda values: all(_truth(part(values)) for part in parts)


def _any(parts: list[_Part]) -> _Part:
    return lambda values: any(_truth(part(values)) for part in parts)


def _truth(value: Any) -> bool:
    return bool(value)


def _compare(sign: str, left: Any, right: Any) -> bool:
    if sign in ("in", "not in"):
        found = _contains(left, right)
        return found is (sign == "in")
    if left is None or right is None:
        return (left is right) is (sign == "==") if sign in ("==", "!=") else False
    kind = _kind(left)
    if kind is None or kind is not _kind(right):
        return False
    if sign in ("==", "!="):
        return bool(left == right) is (sign == "==")
    return kind is not bool and _ORDER[sign](left, right)


def _contains(item: Any, container: Any) -> bool | None:
    """Whether the item is in the container; None when the question makes no sense."""
    if isinstance(container, list):
        return any(_compare("==", item, other) for other in container)
    if isinstance(item, str) and isinstance(container, str | Mapping):
        return item in container
    return None


def _kind(value: Any) -> type | None:
    """The type of a scalar, int and float being one; None for a list or an object."""
    if isinstance(value, bool):
        return bool
    if isinstance(value, int | float):
        return float
    return str if isinstance(value, str) else None
