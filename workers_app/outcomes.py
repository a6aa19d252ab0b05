"""How the result of an executor becomes the outcome of the run: what is tried again, handed back, or cut short."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime

from tasks_app import retry
from tasks_app.moves import Outcome
from tasks_app.states import Reason, RunState
from workers_app.jobs import Active, Control, Result
from workers_app.retries import why_not


def outcome_of(active: Active, result: Result, now: datetime) -> Outcome:
    """The outcome of an attempt that ended at `now`: as it ended, or another attempt where the task allows one."""
    job = active.job
    outcome = Outcome(
        job.run_id,
        job.attempt,
        result.state,
        result.reason,
        result.detail,
        exit_code=result.exit_code,
        output=result.output,
    )
    if active.control.why == Control.STOPPING and result.state is RunState.CANCELLED:
        outcome.reason, outcome.detail = Reason.WORKER_STOPPED, "Its worker was stopped before it could end."
        outcome.state = RunState.WAITING if job.retry_on_lost else RunState.LOST
        outcome.retry_at = now if job.retry_on_lost else None
    elif result.state in (RunState.FAILED, RunState.TIMED_OUT):
        _decide(outcome, active, result, now)
    if job.masks is not None:
        outcome.detail, outcome.output = job.masks.text(outcome.detail), job.masks.json(outcome.output)
    return outcome


def _decide(outcome: Outcome, active: Active, result: Result, now: datetime) -> None:
    job = active.job
    if not result.retryable:
        if job.attempt <= job.retry.retry_count:
            outcome.detail = f"{outcome.detail} Not tried again: another attempt could not end otherwise.".strip()
        return
    decision = retry.decide(
        job.retry,
        retry.Failure(result.exit_code, result.exceptions, result.status),
        attempt=job.attempt,
        now=now,
        first_started_at=job.first_started_at,
        asked_delay=result.asked_delay,
        random=random.random,
    )
    if decision.at is not None:
        outcome.state, outcome.retry_at = RunState.WAITING, decision.at
    else:
        outcome.detail = f"{outcome.detail} {why_not(decision.why, job.retry)}".strip()


def without_result(outcome: Outcome, error: Exception) -> Outcome:
    """What can be recorded of an outcome that the database refused as it stood."""
    ended = RunState.FAILED if outcome.state is RunState.SUCCEEDED else outcome.state
    detail = f"It ended as {outcome.state}, but its result could not be recorded: {error}"
    return replace(outcome, state=ended, reason=Reason.INTERNAL, detail=detail, exit_code=None, output=None)
