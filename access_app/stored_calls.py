"""Calls of services as JSON, and back: exactly the arguments that were given, rows by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from django.apps import apps
from django.db.models import Model, QuerySet

from access_app.errors import NotFound

# A name that begins so says what a value is; the text of a user is never taken for one.
_MARK = "~"


def stored(value: Any) -> Any:
    """The value as JSON. Raises TypeError for what no service takes."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return stored(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return {"~at": value.isoformat()}
    if isinstance(value, Model):
        return {"~row": [value._meta.label_lower, value.pk]}
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"~data": kind, "values": {one.name: stored(getattr(value, one.name)) for one in fields(value)}}
    if isinstance(value, Mapping):
        pairs = {str(name): stored(inner) for name, inner in value.items()}
        return {"~object": list(pairs.items())} if any(name.startswith(_MARK) for name in pairs) else pairs
    if isinstance(value, list | tuple | QuerySet):
        return [stored(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} cannot be kept for an approval")


def loaded(value: Any, kinds: Mapping[str, type[Any]]) -> Any:
    """The value again; `kinds` are the dataclasses that may stand in it. Raises NotFound where a row is gone."""
    if isinstance(value, list):
        return [loaded(inner, kinds) for inner in value]
    if not isinstance(value, dict):
        return value
    if "~at" in value:
        return datetime.fromisoformat(value["~at"])
    if "~row" in value:
        return _row(*value["~row"])
    if "~data" in value:
        return kinds[value["~data"]](**{name: loaded(inner, kinds) for name, inner in value["values"].items()})
    if "~object" in value:
        return {name: loaded(inner, kinds) for name, inner in value["~object"]}
    return {name: loaded(inner, kinds) for name, inner in value.items()}


def rows_in(value: Any) -> list[Model]:
    """Every row that stands somewhere in the arguments."""
    if isinstance(value, Model):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        return [row for one in fields(value) for row in rows_in(getattr(value, one.name))]
    if isinstance(value, Mapping):
        return [row for inner in value.values() for row in rows_in(inner)]
    if isinstance(value, list | tuple | QuerySet):
        return [row for inner in value for row in rows_in(inner)]
    return []


def versions(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The state of every row of the call as the database has it now, by kind and key; "" for one that is gone."""
    found: dict[str, str] = {}
    for row in rows_in(arguments):
        current = type(row)._default_manager.filter(pk=row.pk).first()
        found[f"{row._meta.label_lower}:{row.pk}"] = "" if current is None else _version(current)
    return found


def _version(row: Any) -> str:
    if hasattr(row, "updated_at"):
        return f"{row.updated_at.isoformat()}"
    if hasattr(row, "attempt"):
        return f"{row.state}:{row.attempt}"
    if row._meta.model_name in ("pool", "project", "resource"):
        return str(row.pk)
    return str(sorted((one.attname, str(getattr(row, one.attname))) for one in row._meta.concrete_fields))


def _row(label: str, pk: Any) -> Model:
    model = apps.get_model(label)
    related = [one.name for one in model._meta.get_fields() if one.many_to_one and one.concrete and not one.null]
    found: Model | None = model._default_manager.select_related(*related).filter(pk=pk).first()
    if found is None:
        raise NotFound
    return found
