"""Request bodies: JSON as RFC 8259 means it, within limits that a database row can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.utils.translation import gettext as _
from rest_framework.parsers import JSONParser

from access_app import json_text
from access_app.errors import InvalidInput

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
        _check_depth(value)
        if b"\\u" in raw:
            _check_text(value)
        return value


def _loads(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(body=_("The body is not valid UTF-8 (at byte %(n)d).") % {"n": error.start}) from error
    try:
        return json_text.loads(text)
    except json_text.JSONFault as fault:
        raise InvalidInput(**{fault.name or "body": fault.problem}) from fault


def _check_depth(body: dict[str, Any]) -> None:
    for name, value in body.items():
        if json_text.is_too_deep(value, json_text.MAX_DEPTH - 1):
            raise InvalidInput(**{json_text.shown(name): json_text.too_deep()})


def _check_text(body: dict[str, Any]) -> None:
    """Walk without recursion. `name` is the top-level field under which a problem is reported."""
    stack: list[tuple[str, Any]] = [(name, name) for name in body] + list(body.items())
    while stack:
        name, item = stack.pop()
        if isinstance(item, str) and _NOT_STORABLE.search(item):
            raise InvalidInput(**{json_text.shown(name): _("This must not contain NUL or half a surrogate pair.")})
        if isinstance(item, dict):
            stack.extend((name, key) for key in item)
        if isinstance(item, dict | list):
            stack.extend((name, child) for child in (item.values() if isinstance(item, dict) else item))
