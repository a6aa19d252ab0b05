"""`sql`: one statement on a named connection, in a transaction; rows as CSV, their number and the first as output."""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from datetime import date, datetime, time
from typing import Any

from django.conf import settings

from tasks_app import secret_names
from tasks_app.models import EndStep
from tasks_app.states import Reason, RunState
from tasks_app.texts import storable, storable_json
from workers_app.jobs import Control, Job, Result
from workers_app.lines import MAX_OUTPUT_JSON
from workers_app.output import STDOUT, OutputSink
from workers_app.sql_sessions import Answer, Session, SqlFailure, SqlUnreachable, Values, open_session

DEFAULT_CONNECTION = "default"
DEFAULT_ROWS = 20
SCHEMES = ("postgres://", "postgresql://", "sqlite:///")
_REPEAT_SECONDS = 0.2
_SERVER_GRACE_SECONDS = 5.0


def execute(job: Job, control: Control, sink: OutputSink) -> Result:
    """Execute the statement of the job; a cancel or the time limit ends it on the server, and nothing is kept of it."""
    name = job.params.get("connection", DEFAULT_CONNECTION)
    try:
        url = _url(name, job)
        values = secret_names.put_in(job.params.get("values"), job.secrets)
    except _NoConnection as error:
        sink.close()
        return Result(RunState.FAILED, error.reason, str(error), retryable=error.reason == Reason.CONNECTION)
    except KeyError as error:
        sink.close()
        detail = f"The task has no secret {error.args[0]}, to which its parameters refer."
        return Result(RunState.FAILED, Reason.INVALID_PARAMETERS, detail, retryable=False)
    watch = _Watch(job.timeout_seconds, control)
    try:
        return _run(job, url, values, watch, sink)
    except SqlUnreachable as error:
        return watch.result() or Result(RunState.FAILED, Reason.CONNECTION, f"{error}.")
    except SqlFailure as error:
        failed = Result(
            RunState.FAILED, Reason.EXCEPTION, str(error), retryable=not error.final, exceptions=error.names
        )
        return watch.result() or failed
    finally:
        watch.close()
        sink.close()


class _NoConnection(Exception):
    def __init__(self, reason: Reason, text: str) -> None:
        self.reason = reason
        super().__init__(text)


def _url(name: str, job: Job) -> str:
    """The address of a connection: of the worker by its name, or a secret of the task. Raises _NoConnection, and
    KeyError for a secret that the task does not have."""
    if secret_names.references(name):
        url: str = secret_names.put_in(name, job.secrets).strip()
        if not url.startswith(SCHEMES):
            text = f"The secret of the connection must begin with one of: {', '.join(SCHEMES)}."
            raise _NoConnection(Reason.INVALID_PARAMETERS, text)
        return url
    found: str | None = settings.SCHEDULER_SQL.get(name)
    if found is None:
        text = f"This worker has no connection {name}: set SCHEDULER_SQL_{name.upper()}, or route the task by labels."
        raise _NoConnection(Reason.CONNECTION, text)
    return found


def _run(job: Job, url: str, values: Values, watch: _Watch, sink: OutputSink) -> Result:
    autocommit = job.params.get("autocommit", False)
    # The server's own limit is for the case that nobody is left to end the statement.
    seconds = job.timeout_seconds + _SERVER_GRACE_SECONDS
    session = open_session(url, name=f"scheduler run {job.run_id}", seconds=seconds, autocommit=autocommit)
    try:
        watch.begin(session)
        answer = session.run(job.command, values)
        output = _read(answer, job.params.get("max_rows", DEFAULT_ROWS), sink)
        if not autocommit:
            if (ended := watch.result()) is not None:
                return ended
            session.commit()
        return Result(RunState.SUCCEEDED, exit_code=0, output=output)
    finally:
        watch.close()
        session.close()


def _read(answer: Answer, most: int, sink: OutputSink) -> dict[str, Any]:
    """Pass the rows on as CSV; what is kept as output is the number of rows and the first `most` of them."""
    if not answer.columns:
        count = answer.touched or 0
        sink.note(f"Rows: {count:,}.")
        return {"row_count": count}
    kept: list[list[Any]] = []
    sink.feed(STDOUT, _as_csv([answer.columns]))
    count, room = 0, MAX_OUTPUT_JSON - len(json.dumps(answer.columns)) - 200
    for batch in answer.batches:
        rows = [[_plain(value) for value in row] for row in batch]
        sink.feed(STDOUT, _as_csv(rows))
        count += len(rows)
        for row in rows[: max(most - len(kept), 0)]:
            room -= len(json.dumps(row)) + 2
            if room < 0:
                most = 0
                break
            kept.append(row)
    return {"row_count": count, "columns": answer.columns, "rows": kept}


def _as_csv(rows: list[list[Any]] | list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [json.dumps(value) if isinstance(value, list | dict) else value for value in row] for row in rows
    )
    return text.getvalue().encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """A value of a row as JSON: times in ISO 8601, bytes in hexadecimal, exact numbers as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list | dict):
        return storable_json(json.loads(json.dumps(value, default=_plain)))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)


class _Watch:
    """Ends the statement when the run is asked to end or its time is over, again and again until it has ended: what is
    asked of a server between two statements is forgotten."""

    def __init__(self, seconds: float, control: Control) -> None:
        self._seconds, self._control = seconds, control
        self._asked, self._over = threading.Event(), threading.Event()
        self._timed_out = False
        self._session: Session | None = None
        self._thread = threading.Thread(target=self._wait, name="sql-watch", daemon=True)
        control.on_end(self._asked.set)
        self._thread.start()

    def begin(self, session: Session) -> None:
        self._session = session

    def result(self) -> Result | None:
        """How the run ends where it was not to go on; None where nobody wanted it to end."""
        if self._control.why is not None:
            return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED, "The statement was ended on request.")
        if self._timed_out:
            detail = f"It ran longer than {self._seconds:g} s and was ended."
            return Result(RunState.TIMED_OUT, Reason.TIMEOUT, detail)
        return None

    def close(self) -> None:
        """No interrupt is sent once this returns."""
        self._over.set()
        self._asked.set()
        self._thread.join()

    def _wait(self) -> None:
        if not self._asked.wait(self._seconds):
            self._timed_out = True
        while not self._over.is_set():
            if self._session is not None:
                self._control.took(EndStep.Step.INTERRUPTED)
                self._session.interrupt()
            self._over.wait(_REPEAT_SECONDS)
