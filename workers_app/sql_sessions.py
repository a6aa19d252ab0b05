"""One statement on a database of the user's: on PostgreSQL by psycopg, on a file by SQLite. Rows come in batches."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

BATCH = 100
CONNECT_SECONDS = 10
Values = dict[str, Any] | list[Any] | None


class SqlFailure(Exception):
    """What the database says against the statement. `names` are those of the driver's exception and of its bases;
    `final` where another attempt cannot end otherwise."""

    def __init__(self, error: Exception, *, final: bool = False) -> None:
        kinds = type(error).__mro__[:-1]
        self.names = tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if kind.__module__ != "builtins")
        self.final = final
        super().__init__(f"{type(error).__name__}: {error}".strip())


class SqlUnreachable(Exception):
    """The database cannot be reached, or the connection to it broke."""


@dataclass(slots=True)
class Answer:
    """What a statement gave: the names of its columns, none where it returns no rows; its rows in batches; and how many
    rows it touched, where that is known before they are read."""

    columns: list[str]
    batches: Iterator[Sequence[tuple[Any, ...]]]
    touched: int | None = None


class Session(Protocol):
    """A connection for one statement, in a transaction unless `autocommit`."""

    def run(self, statement: str, values: Values) -> Answer: ...
    def commit(self) -> None: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...


def open_session(url: str, *, name: str, seconds: float, autocommit: bool) -> Session:
    """Connect to the database of the URL. `name` is how the session shows itself there, `seconds` the longest time that
    a statement may take. Raises SqlUnreachable."""
    if url.startswith("sqlite:"):
        return SQLiteSession(url, seconds=seconds, autocommit=autocommit)
    return PostgreSQLSession(url, name=name, seconds=seconds, autocommit=autocommit)


class PostgreSQLSession:
    """A statement on PostgreSQL. Placeholders are `%(name)s`, or `%s` for a list."""

    def __init__(self, url: str, *, name: str, seconds: float, autocommit: bool) -> None:
        import psycopg

        self._psycopg = psycopg
        self._autocommit = autocommit
        self._declared: Any = None
        try:
            self._connection = psycopg.connect(
                url, autocommit=autocommit, application_name=name, connect_timeout=CONNECT_SECONDS
            )
            self._connection.execute("select set_config('statement_timeout', %s, false)", [str(int(seconds * 1000))])
        except psycopg.Error as error:
            raise SqlUnreachable(str(error).strip()) from error

    def run(self, statement: str, values: Values) -> Answer:
        """Raises SqlFailure, SqlUnreachable."""
        with self._translated():
            cursor = None if self._autocommit else self._declare(statement, values)
            touched = None
            if cursor is None:
                cursor = self._connection.cursor()
                cursor.execute(statement.encode(), values)
                touched = cursor.rowcount if cursor.rowcount >= 0 else None
            columns = [column.name for column in cursor.description or ()]
        return Answer(columns, self._batches(cursor) if columns else iter(()), touched)

    def _declare(self, statement: str, values: Values) -> Any:
        """The statement as a cursor of the server, which gives rows as they are asked for; None for one that cannot be
        declared. The server does not begin to execute it before the first row is wanted."""
        self._declared = cursor = self._connection.cursor(name="run")
        try:
            with self._connection.transaction():
                cursor.execute(statement.encode(), values)
                return cursor
        except self._psycopg.errors.QueryCanceled:
            raise
        except self._psycopg.Error:
            if self._connection.closed:
                raise
            return None

    def _batches(self, cursor: Any) -> Iterator[Sequence[tuple[Any, ...]]]:
        with self._translated():
            while rows := cursor.fetchmany(BATCH):
                yield rows

    def commit(self) -> None:
        """Raises SqlFailure, as for a deferred constraint."""
        with self._translated():
            self._connection.commit()

    def interrupt(self) -> None:
        """Ask the server to end the statement under way; safe from another thread."""
        with contextlib.suppress(self._psycopg.Error):
            self._connection.cancel_safe(timeout=5)

    def close(self) -> None:
        """What is not committed is rolled back."""
        self._connection.close()
        if self._declared is not None:
            # Now it has nothing to tell the server.
            self._declared.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            if self._connection.closed:
                raise SqlUnreachable(str(error).strip()) from error
            # Class 42: a name that does not exist, a statement that cannot be read, a right that is not had.
            raise SqlFailure(error, final=(error.sqlstate or "").startswith("42")) from error


class SQLiteSession:
    """A statement on a file of SQLite. Placeholders are `:name`, or `?` for a list."""

    def __init__(self, url: str, *, seconds: float, autocommit: bool) -> None:
        path = unquote(urlsplit(url).path)[1:]
        try:
            # mode=rw: a wrong path is an error, not a new and empty database.
            self._connection = sqlite3.connect(
                f"file:{path}?mode=rw", uri=True, timeout=seconds, isolation_level=None, check_same_thread=False
            )
            if not autocommit:
                self._connection.execute("BEGIN")
        except sqlite3.Error as error:
            raise SqlUnreachable(f"{path}: {error}") from error

    def run(self, statement: str, values: Values) -> Answer:
        """Raises SqlFailure."""
        with self._translated():
            cursor = self._connection.execute(statement, values if values is not None else ())
            columns = [column[0] for column in cursor.description or ()]
        touched = cursor.rowcount if cursor.rowcount >= 0 and not columns else None
        return Answer(columns, self._batches(cursor) if columns else iter(()), touched)

    def _batches(self, cursor: sqlite3.Cursor) -> Iterator[Sequence[tuple[Any, ...]]]:
        with self._translated():
            while rows := cursor.fetchmany(BATCH):
                yield rows

    def commit(self) -> None:
        """Raises SqlFailure."""
        with self._translated():
            self._connection.commit()

    def interrupt(self) -> None:
        """End the statement under way; safe from another thread."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.interrupt()

    def close(self) -> None:
        """What is not committed is rolled back."""
        self._connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise SqlFailure(error, final="syntax error" in str(error) or "no such" in str(error)) from error
