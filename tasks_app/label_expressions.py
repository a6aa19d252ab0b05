"""What a task requires of the labels of a worker: parsed once, never evaluated as code. Pure.

    gpu and zone in (a, b) and not spot and mem >= 16

A name alone holds where the worker has that label and its value is not `false`, `no` or `0`. `=` (or `==`) and `in`
compare texts, and numbers as numbers; `!=` and `not in` hold where they do not, so also where there is no such label.
`<`, `<=`, `>`, `>=` compare numbers; what is none is neither less nor more. `not` binds closest, then `and`, `or`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from django.utils.translation import gettext as _

MAX_LENGTH = 500
MAX_DEPTH = 20
LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,62}")
LABEL_VALUE = re.compile(r"[^\x00-\x1f\x7f]{0,200}")
KEYWORDS = frozenset({"and", "or", "not", "in"})

_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[A-Za-z0-9_.+-][A-Za-z0-9_./:+-]*)
    | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
    | (?P<sign>==|!=|<=|>=|<|>|=|\(|\)|,))""",
    re.VERBOSE,
)
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NO = frozenset({"false", "no", "0", ""})
Labels = Mapping[str, str]
_Part = Callable[[Labels], bool]


class LabelError(ValueError):
    """An expression that is refused; `position` counts characters from 0, `message` is a sentence for people."""

    def __init__(self, message: str, position: int) -> None:
        self.message = _("%(why)s (at character %(n)d)") % {"why": message, "n": position + 1}
        self.position = position
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class Requirement:
    """A parsed expression: the parts that must all hold, each with its own text."""

    parts: tuple[tuple[str, _Part], ...]

    def holds(self, labels: Labels) -> bool:
        """Whether a worker with these labels will do."""
        return all(part(labels) for _text, part in self.parts)

    def unmet(self, workers: Iterable[Labels]) -> list[str]:
        """The texts of the parts that hold for none of the workers."""
        known = list(workers)
        return [text for text, part in self.parts if not any(part(labels) for labels in known)]


@lru_cache(maxsize=1000)
def parse(text: str) -> Requirement:
    """The requirement that the text describes; an empty one asks for nothing. Raises LabelError."""
    if len(text) > MAX_LENGTH:
        raise LabelError(_("This has more than %(n)d characters.") % {"n": MAX_LENGTH}, MAX_LENGTH)
    return Requirement(tuple(_Parser(text).whole()) if text.strip() else ())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int

    def is_sign(self, *signs: str) -> bool:
        return self.kind == "sign" and self.text in signs


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while text[position:].strip():
        found = _TOKEN.match(text, position)
        if found is None:
            position += len(text[position:]) - len(text[position:].lstrip())
            if text[position] in "\"'":
                raise LabelError(_("The text that begins here is never closed."), position)
            raise LabelError(_("%(what)s does not belong here.") % {"what": text[position]}, position)
        kind = str(found.lastgroup)
        word = found[kind]
        start, position = found.start(kind), found.end()
        if kind == "word" and word in KEYWORDS:
            kind = "sign"
        elif kind in ("double", "single"):
            kind, start = "text", start - 1
        tokens.append(_Token(kind, word, start, position))
    return [*tokens, _Token("end", "", len(text), len(text))]


class _Parser:
    """Recursive descent; the depth is bounded here and, with it, that of `holds`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def whole(self) -> list[tuple[str, _Part]]:
        parts = self.choices()
        if self.token.kind != "end":
            self.refuse(_("'and', 'or' or the end"))
        return parts

    def choices(self) -> list[tuple[str, _Part]]:
        start = self.token.start
        found = [self.conjunction()]
        while self.token.is_sign("or"):
            self.at += 1
            found.append(self.conjunction())
        if len(found) == 1:
            return found[0]
        joined = [_all([part for _text, part in parts]) for parts in found]
        return [(self.since(start), lambda labels: any(part(labels) for part in joined))]

    def conjunction(self) -> list[tuple[str, _Part]]:
        parts = self.negation()
        while self.token.is_sign("and"):
            self.at += 1
            parts += self.negation()
        return parts

    def negation(self) -> list[tuple[str, _Part]]:
        start = self.token.start
        if self.token.is_sign("not"):
            self.enter()
            inner = _all([part for _text, part in self.negation()])
            self.depth -= 1
            return [(self.since(start), lambda labels: not inner(labels))]
        if self.token.is_sign("("):
            self.enter()
            parts = self.choices()
            self.expect(")")
            self.depth -= 1
            return parts
        part = self.term()
        return [(self.since(start), part)]

    def term(self) -> _Part:
        name = self.token
        if name.kind not in ("word", "text") or not LABEL_NAME.fullmatch(name.text):
            self.refuse(_("the name of a label"))
        self.at += 1
        sign, label = self.token, name.text
        if sign.is_sign("not") and self.tokens[self.at + 1].is_sign("in"):
            self.at += 2
            values = self.values()
            return lambda labels: not _among(labels.get(label), values)
        if sign.is_sign("in"):
            self.at += 1
            values = self.values()
            return lambda labels: _among(labels.get(label), values)
        if sign.is_sign("=", "==", "!="):
            self.at += 1
            value, wanted = [self.value()], sign.text != "!="
            return lambda labels: _among(labels.get(label), value) is wanted
        if sign.is_sign(*_ORDER):
            self.at += 1
            return self.order(label, _ORDER[sign.text])
        return lambda labels: labels.get(label, "").lower() not in _NO

    def order(self, label: str, compare: Callable[[float, float], bool]) -> _Part:
        position = self.token.start
        limit = _number(self.value())
        if limit is None:
            raise LabelError(_("Only numbers are less or more than others."), position)

        def holds(labels: Labels) -> bool:
            value = _number(labels.get(label, ""))
            return value is not None and compare(value, limit)

        return holds

    def values(self) -> list[str]:
        self.expect("(")
        found = [self.value()]
        while self.token.is_sign(","):
            self.at += 1
            found.append(self.value())
        self.expect(")")
        return found

    def value(self) -> str:
        if self.token.kind not in ("word", "text"):
            self.refuse(_("a value"))
        self.at += 1
        return self.tokens[self.at - 1].text

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise LabelError(_("More than %(n)d levels deep.") % {"n": MAX_DEPTH}, self.token.start)
        self.at += 1

    def expect(self, sign: str) -> None:
        if not self.token.is_sign(sign):
            self.refuse(f"'{sign}'")
        self.at += 1

    def since(self, start: int) -> str:
        return self.text[start : self.tokens[self.at - 1].end]

    def refuse(self, wanted: str) -> NoReturn:
        found = _("the end") if self.token.kind == "end" else repr(self.token.text[:40])
        text = _("Expected %(wanted)s, found %(found)s.") % {"wanted": wanted, "found": found}
        raise LabelError(text, self.token.start)


def _all(parts: Sequence[_Part]) -> _Part:
    return parts[0] if len(parts) == 1 else lambda labels: all(part(labels) for part in parts)


def _among(value: str | None, wanted: Sequence[str]) -> bool:
    return value is not None and any(value == each or _same_number(value, each) for each in wanted)


def _same_number(one: str, other: str) -> bool:
    number = _number(one)
    return number is not None and number == _number(other)


def _number(text: str) -> float | None:
    try:
        found = float(text) if len(text) <= 40 else None
    except ValueError:
        return None
    # Texts such as `nan` and `inf` are words to whoever writes labels.
    return found if found is not None and text[-1:].isdigit() else None
