"""What agents report of their runs: lines of output, and how they ended. Facts go in, judgement is made here.

Each report names the attempt, and counts while that is running on the worker that reports: the run's row is locked
meanwhile, so that a report and the rescue of the run, or two reports of one run, come one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max
from django.utils.translation import gettext as _

from access_app.masking import Masks
from tasks_app import rowset, transitions
from tasks_app.errors import InvalidInput, SchedulerError
from tasks_app.models import Run, RunOutput
from tasks_app.moves import Claimed
from tasks_app.run_output import MAX_BATCH_LINES
from tasks_app.states import Reason, RunState
from tasks_app.texts import clipped, storable
from tasks_app.wakeup import nudge
from workers_app.agents import actor_name
from workers_app.claiming import specs_of, taken_up
from workers_app.executors.shell import result_of
from workers_app.jobs import Active, Control, Result
from workers_app.models import Worker
from workers_app.outcomes import outcome_of
from workers_app.output import STDERR, STDOUT, SYSTEM, OutputSink, Row, store
from workers_app.processes import Ended
from workers_app.secrets_of_runs import NOTHING, given_to

STREAMS = (STDOUT, STDERR, SYSTEM)
# An agent keeps to the cap of a run by itself; what goes this far beyond it in the table is no honest agent's.
MOST_STORED = 4
# By how much the clock of the web may have been set back while a run ran into its time limit.
CLOCK_SLACK = timedelta(seconds=1)
# What kept a command from starting, and whether another attempt may do better.
FAILURES = {
    "command_missing": (Reason.COMMAND_NOT_FOUND, True),
    "script_missing": (Reason.SCRIPT_MISSING, True),
    "script_outside": (Reason.SCRIPT_MISSING, False),
    "internal": (Reason.INTERNAL, True),
}
TIMEOUT = "timeout"
# What an agent may say of who ended a run.
ENDINGS = (TIMEOUT, Control.CANCEL, Control.KILL, Control.STOPPING)


class NotYours(SchedulerError):
    """This attempt is not running on this worker (any more): report nothing more of it, and end what is left of it."""

    code = "run_not_yours"
    status = 409


class OutputGap(SchedulerError):
    """Lines are missing before these; send them from `next_offset` on."""

    code = "output_gap"
    status = 409


class OutputFull(SchedulerError):
    """This run has more output than is kept; send no more of it."""

    code = "output_full"
    status = 413


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output that came `age` seconds before it was sent: clocks of agents are not asked."""

    age: float
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended: its exit code (negative for a signal) and who ended it, one of ENDINGS or nobody. Or why it
    never started, by FAILURES, with a sentence. `lines` is how many lines it wrote, `last_line` the last of stdout."""

    attempt: int
    lines: int
    exit_code: int | None = None
    ended_by: str = ""
    failure: str = ""
    detail: str = ""
    last_line: str = ""


def write_output(
    worker: Worker, run_id: int, attempt: int, offset: int, lines: Sequence[Line], *, truncated: bool, now: datetime
) -> int:
    """Keep lines, the first of which is line `offset` of the attempt; the offset of the next one.

    Lines that are here already are passed over, so that a report can be repeated. `truncated`: the first of these lines
    says how much was left out before it. Raises NotYours, OutputGap or OutputFull.
    """
    with transaction.atomic():
        run = _locked(worker, run_id, attempt)
        stored = _stored_lines(run)
        if offset > stored:
            raise OutputGap(next_offset=stored)
        fresh = lines[stored - offset :]
        if not fresh:
            return stored
        if _stored_bytes(run) > MOST_STORED * settings.SCHEDULER_OUTPUT_BYTES:
            raise OutputFull
        store(_rows(run, stored, fresh, truncated and stored == offset, now, _masks(run)))
        return stored + len(fresh)


def finish(worker: Worker, run_id: int, end: End, *, now: datetime) -> str:
    """Record the end of an attempt, once all its lines are here; the state that the run has now.

    Raises NotYours, also when this end was recorded before; OutputGap.
    """
    with transaction.atomic():
        run = _locked(worker, run_id, end.attempt)
        stored = _stored_lines(run)
        if end.lines > stored:
            raise OutputGap(next_offset=stored)
        active = _active(run, now)
        outcome = outcome_of(active, _judged(run, active, end, now), now)
        if not transitions.finish([outcome], worker_id=worker.pk, now=now, actor=actor_name(worker)):
            raise NotYours
        nudge()
    return outcome.state.value


def _locked(worker: Worker, run_id: int, attempt: int) -> Run:
    rows = Run.objects.select_for_update(of=("self",), no_key=True).select_related("version__task")
    run = rows.filter(pk=run_id, worker_id=worker.pk, attempt=attempt, state=RunState.RUNNING).first()
    if run is None:
        raise NotYours
    return run


# --- output -----------------------------------------------------------------------------------------------------------


def _stored_lines(run: Run) -> int:
    batches = RunOutput.objects.filter(run=run, attempt=run.attempt)
    return batches.aggregate(n=Max(F("first_line") + F("line_count")))["n"] or 0


def _stored_bytes(run: Run) -> int:
    """How much the output takes in the table, as it is stored there."""
    size = "pg_column_size(lines)" if rowset.is_postgresql() else "length(lines)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce(sum({size}), 0) FROM tasks_app_runoutput WHERE run_id = %s AND attempt = %s",
            [run.pk, run.attempt],
        )
        return int(cursor.fetchone()[0])


def _masks(run: Run) -> Masks | None:
    """Agents mask what they send; this is for one that does not."""
    version = run.version
    claimed = Claimed(run.pk, run.attempt, run.task_id, run.version_id, None, {})
    return given_to([claimed], {version.pk: version}).get(run.pk, NOTHING).masks


def _rows(
    run: Run, first: int, lines: Sequence[Line], truncated: bool, now: datetime, masks: Masks | None
) -> list[Row]:
    kept = [(_at(line, now), line.stream, _text(masks.text(line.text) if masks else line.text)) for line in lines]
    return [
        {
            "run_id": run.pk,
            "attempt": run.attempt,
            "first_line": first + start,
            "line_count": len(kept[start : start + MAX_BATCH_LINES]),
            "lines": kept[start : start + MAX_BATCH_LINES],
            "truncated": truncated and start == 0,
        }
        for start in range(0, len(kept), MAX_BATCH_LINES)
    ]


def _at(line: Line, now: datetime) -> str:
    return (now - timedelta(seconds=line.age)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _text(text: str) -> str:
    # The agent says itself what it left out of a line; beyond the limit there is only that remark.
    return clipped(storable(text), settings.SCHEDULER_LINE_BYTES + 100)


# --- judgement --------------------------------------------------------------------------------------------------------


def _active(run: Run, now: datetime) -> Active:
    """The attempt as its worker would have it: with its task's rules, and whatever was asked of it."""
    fields: dict[str, Any] = {"nominal_at": run.nominal_at, "params": run.params}
    claimed = Claimed(run.pk, run.attempt, run.task_id, run.version_id, **fields)
    (active,) = taken_up([claimed], specs_of({run.version_id}), now=run.started_at or now)
    return active


def _judged(run: Run, active: Active, end: End, now: datetime) -> Result:
    if end.failure:
        reason, retryable = FAILURES[end.failure]
        return Result(RunState.FAILED, reason, storable(end.detail), retryable=retryable)
    if end.exit_code is None:
        raise InvalidInput(exit_code=_("Give the exit code, or what kept the command from starting."))
    why = _why(run, active, end, now)
    if why is not None and why != TIMEOUT:
        active.control.end(why)
    sink = OutputSink(run.pk, run.attempt, active.job.masks)
    sink.feed(STDOUT, end.last_line.encode("utf-8", "surrogatepass"))
    sink.close()
    return result_of(Ended(end.exit_code, why), active.job, sink)


def _why(run: Run, active: Active, end: End, now: datetime) -> str | None:
    """Who ended it, as far as that can be so: a cancel that nobody asked for is an end by signal like any other."""
    if end.ended_by == TIMEOUT:
        ran = now - (run.started_at or now)
        return TIMEOUT if ran >= timedelta(seconds=active.job.timeout_seconds) - CLOCK_SLACK else None
    if end.ended_by in (Control.CANCEL, Control.KILL):
        if run.cancel_requested_at is None:
            return None
        return Control.KILL if run.terminate_requested_at is not None else Control.CANCEL
    return end.ended_by or None
