"""Many rows as one statement parameter: a JSON array that the database reads as a table.

The same SQL text then serves PostgreSQL (`json_to_recordset`) and SQLite (`json_each`, 3.38 or newer), one round trip
for any number of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

_SQLITE_JSON = "nullif(value->'$.{name}', 'null')"
_SQLITE_PLAIN = "value->>'$.{name}'"


def is_postgresql(using: str = "default") -> bool:
    return connections[using].vendor == "postgresql"


def lock_clause() -> str:
    """Row lock that passes over rows held by another dispatcher; SQLite has one writer and needs none."""
    return " FOR UPDATE SKIP LOCKED" if is_postgresql() else ""


def table(alias: str, columns: Mapping[str, str], using: str = "default") -> str:
    """SQL for a FROM clause with one `%s` for `encode(...)`: the rows as `alias` with `columns` (name -> SQL type)."""
    if is_postgresql(using):
        typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        return f"json_to_recordset(%s::json) AS {alias}({typed})"
    picked = ", ".join(
        f"{(_SQLITE_JSON if kind == 'jsonb' else _SQLITE_PLAIN).format(name=name)} AS {name}"
        for name, kind in columns.items()
    )
    return f"(SELECT {picked} FROM json_each(%s)) AS {alias}"


def encode(rows: Iterable[Mapping[str, Any]], using: str = "default") -> str:
    """The rows as the JSON parameter of `table`; aware datetimes in the form in which the database keeps them."""
    encoder = _PostgresqlEncoder if is_postgresql(using) else _SqliteEncoder
    return json.dumps(list(rows), cls=encoder, separators=(",", ":"))


def moment(value: datetime | None, using: str = "default") -> Any:
    """One datetime as a parameter in raw SQL."""
    return connections[using].ops.adapt_datetimefield_value(value) if value is not None else None


def instant(value: Any) -> datetime:
    """A time as raw SQL answers it, aware: SQLite keeps UTC as text, without saying so."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def database_now(connection: BaseDatabaseWrapper | None = None) -> datetime:
    """The database server's clock, in UTC: leases are judged by it, so that worker clocks need not agree."""
    connection = connection or connections["default"]
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cast(datetime, cursor.fetchone()[0]).astimezone(UTC)


class _PostgresqlEncoder(json.JSONEncoder):
    def default(self, o: Any) -> Any:
        return o.isoformat() if isinstance(o, datetime) else str(o)


class _SqliteEncoder(json.JSONEncoder):
    def default(self, o: Any) -> Any:
        if isinstance(o, datetime):
            return str(o.astimezone(UTC).replace(tzinfo=None))
        # Django keeps a UUID on SQLite as 32 hexadecimal digits.
        return o.hex if hasattr(o, "hex") else str(o)
