"""Request bodies: JSON as RFC 8259 means it, within limits that a database row can hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.utils.translation import gettext as _
from rest_framework.parsers import JSONParser

from access_app.errors import InvalidInput

MAX_DEPTH = 50
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


class StrictJSONParser(JSONParser):
    """Parses one JSON object; refuses what other parsers let pass and nobody can mean.

    Raises InvalidInput for syntax errors, duplicate keys, NaN and Infinity, invalid UTF-8, anything but an object at
    the top, nesting beyond 50 levels, NUL characters and half surrogate pairs; RequestDataTooBig above 10 MB.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,  # noqa: ARG002  (DRF's signature)
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise RequestDataTooBig
        value = _loads(raw)
        if not isinstance(value, dict):
            raise InvalidInput(body=_("Send one JSON object."))
        _check_depth_and_text(value, has_escapes=b"\\u" in raw)
        return value


def _loads(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(body=_("The body is not valid UTF-8 (at byte %(n)d).") % {"n": error.start}) from error
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        place = {"problem": error.msg, "line": error.lineno, "column": error.colno}
        text = _("The body is not valid JSON: %(problem)s at line %(line)d, column %(column)d.") % place
        raise InvalidInput(body=text) from error
    except RecursionError as error:
        raise InvalidInput(body=_too_deep()) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _value in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidInput(**{twice: _("This field is given twice.")})
    return found


def _refuse_constant(name: str) -> float:
    raise InvalidInput(body=_("%(name)s is not a JSON value.") % {"name": name})


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidInput(body=_("A number in the body is too large."))
    return value


def _integer(text: str) -> int:
    # Far beyond any column; and Python takes a time that grows with the square of the digits.
    if len(text) > 300:
        raise InvalidInput(body=_("A number in the body is too large."))
    return int(text)


def _check_depth_and_text(value: dict[str, Any], *, has_escapes: bool) -> None:
    """Walk without recursion. `name` is the top-level field under which a problem is reported."""
    stack: list[tuple[str, Any, int]] = [(name, name, 1) for name in value] if has_escapes else []
    stack += [(name, item, 1) for name, item in value.items()]
    while stack:
        name, item, depth = stack.pop()
        if isinstance(item, str):
            if has_escapes and _NOT_STORABLE.search(item):
                raise InvalidInput(**{_shown(name): _("This must not contain NUL or half a surrogate pair.")})
            continue
        if not isinstance(item, dict | list):
            continue
        if depth >= MAX_DEPTH:
            raise InvalidInput(**{_shown(name): _too_deep()})
        stack.extend((name, child, depth + 1) for child in (item.values() if isinstance(item, dict) else item))
        if has_escapes and isinstance(item, dict):
            stack.extend((name, key, depth + 1) for key in item)


def _too_deep() -> str:
    return _("The body is nested more than %(n)d levels deep.") % {"n": MAX_DEPTH}


def _shown(name: str) -> str:
    return name.replace("\x00", "�").encode("utf-8", "replace").decode()
