"""The history checker: what the tasks wrote down while they ran, held against what the database says of them.

A task appends a line at its start, every so often while it runs, and at its end. Lines are appended whole, so that
their order in the file is the order in which things happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.services import ProcessStack

START, BEAT, END = "start", "beat", "end"
PAUSE_SECONDS = 0.2


class Line(NamedTuple):
    """`token` tells two starts of the same attempt apart: the number of the process."""

    run: int
    attempt: int
    token: int
    what: str


@dataclass(frozen=True, slots=True)
class History:
    """A file that tasks write to."""

    file: Path

    def command(self, beats: int) -> str:
        """A shell command that writes itself down and takes about `beats` times PAUSE_SECONDS."""
        return (
            f'say() {{ echo "$SCHEDULER_RUN_ID $SCHEDULER_ATTEMPT $$ $1" >> {self.file}; echo "$1"; }}; say {START}; '
            f"for i in $(seq {beats}); do sleep {PAUSE_SECONDS}; say {BEAT}; done; say {END}"
        )

    def lines(self) -> list[Line]:
        if not self.file.exists():
            return []
        words = [line.split() for line in self.file.read_text().splitlines()]
        return [Line(int(run), int(attempt), int(token), what) for run, attempt, token, what in words]

    def starts(self) -> dict[tuple[int, int], int]:
        """How often each (run, attempt) was started."""
        found: dict[tuple[int, int], int] = defaultdict(int)
        for line in self.lines():
            if line.what == START:
                found[line.run, line.attempt] += 1
        return dict(found)

    def faults(self, stack: ProcessStack) -> list[str]:
        """Everything that must not be: nothing when all is well. Ask when no run is open any more."""
        rows = stack.rows(
            """select run.id, run.state, run.attempt, version.retry_on_lost, exists (
                select from tasks_app_rundependency edge
                join tasks_app_run upstream on upstream.id = edge.upstream_id
                where edge.downstream_id = run.id and upstream.state in ('lost', 'quarantined'))
            from tasks_app_run run join tasks_app_taskversion version on version.id = run.version_id"""
        )
        runs = {row[0]: _Row(*row[1:]) for row in rows}
        return [*_of_the_file(self.lines()), *_of_both(self.lines(), runs), *_lost_instants(stack)]


class _Row(NamedTuple):
    state: str
    attempt: int
    retry_on_lost: bool
    upstream_given_up: bool


def _of_the_file(lines: list[Line]) -> Iterator[str]:
    """Duplicate starts, attempts that overlap, and what an attempt did when the next one had begun."""
    newest: dict[int, int] = {}
    tokens: dict[tuple[int, int], int] = {}
    for line in lines:
        key = (line.run, line.attempt)
        if line.what == START:
            if key in tokens:
                yield f"run {line.run}: attempt {line.attempt} was started twice"
            tokens[key] = line.token
            if line.attempt < newest.get(line.run, 0):
                yield f"run {line.run}: attempt {line.attempt} was started after attempt {newest[line.run]}"
            newest[line.run] = max(newest.get(line.run, 0), line.attempt)
        elif key not in tokens:
            yield f"run {line.run}: attempt {line.attempt} says {line.what} and was never started"
        elif line.attempt < newest[line.run]:
            yield f"run {line.run}: attempt {line.attempt} went on beside attempt {newest[line.run]}"


def _of_both(lines: list[Line], runs: dict[int, _Row]) -> Iterator[str]:
    """What the database says was done and was not, and what was done and the database does not know of."""
    ended = {(line.run, line.attempt) for line in lines if line.what == END}
    attempts: dict[int, set[int]] = defaultdict(set)
    for line in lines:
        if line.what == START:
            attempts[line.run].add(line.attempt)
    for run, row in runs.items():
        expected = ("upstream_failed",) if row.upstream_given_up else ("succeeded", "lost", "quarantined")
        if row.state not in expected:
            yield f"run {run} is {row.state} at attempt {row.attempt}"
        if row.state == "succeeded" and (run, row.attempt) not in ended:
            yield f"run {run} succeeded at attempt {row.attempt}, which did not come to its end"
        if not row.retry_on_lost and len(attempts[run]) > 1:
            yield f"run {run} may run once, and did at attempts {sorted(attempts[run])}"
        if row.state == "lost" and row.retry_on_lost:
            yield f"run {run} may run again, and is lost"
        if attempts[run] and max(attempts[run]) > row.attempt:
            yield f"run {run} was started at attempt {max(attempts[run])}; the database knows {row.attempt}"
    for run in attempts.keys() - runs.keys():
        yield f"run {run} was started, and there is no such run"


def _lost_instants(stack: ProcessStack) -> Iterator[str]:
    """Instants without an answer, or with two: counted here apart from what check_invariants counts."""
    for schedule, step, first, last, answers in stack.rows(_ANSWERED):
        if first is None:
            yield f"schedule {schedule} has not answered once"
            continue
        instants = (last - first).total_seconds() / step + 1
        if instants != answers:
            yield f"schedule {schedule}: {answers} answers for {instants:g} instants from {first} to {last}"


# For schedules `*/N * * * * *` with an end that has passed, from their first answer on.
_ANSWERED = r"""select schedule.id, step.seconds,
    (select min(at) from (select nominal_at as at from tasks_app_run where schedule_id = schedule.id
        union all select first_at from tasks_app_ledgerentry where schedule_id = schedule.id) answer) as first,
    to_timestamp(floor(extract(epoch from schedule.end_at) / step.seconds) * step.seconds) as last,
    (select count(*) from tasks_app_run where schedule_id = schedule.id)
    + (select coalesce(sum(count), 0) from tasks_app_ledgerentry where schedule_id = schedule.id) as answers
    from tasks_app_schedule as schedule,
    lateral (select substring(expression from '^\*/(\d+) ')::int as seconds) as step"""
