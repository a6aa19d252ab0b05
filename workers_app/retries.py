"""What a worker has to know of a run to decide, when it fails, whether and when it is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from tasks_app import never_retry
from tasks_app.models import RunEvent, TaskVersion
from tasks_app.moves import Claimed
from tasks_app.retry import NoRetry, RetryPolicy
from tasks_app.states import RunState


def policy_of(version: TaskVersion) -> RetryPolicy:
    """The retry policy of a version; rules that cannot be read, which no door lets in, are none."""
    try:
        final = never_retry.parse(version.never_retry)
    except never_retry.NeverRetryError:
        final = never_retry.NeverRetry()
    budget = version.retry_budget_seconds
    return RetryPolicy(
        retry_count=version.retry_count,
        delay_seconds=float(version.retry_delay_seconds),
        cap_seconds=float(version.retry_cap_seconds),
        jitter=version.retry_jitter,
        never_exit_codes=final.exit_codes,
        never_exceptions=final.exceptions,
        never_statuses=final.statuses,
        budget_seconds=None if budget is None else float(budget),
    )


def first_starts(claimed: Iterable[Claimed], versions: Mapping[int, TaskVersion]) -> dict[int, datetime]:
    """When the first attempt started of each run that has had one and a budget for retries; no query for others."""
    ids = [run.id for run in claimed if run.attempt > 1 and versions[run.version_id].retry_budget_seconds is not None]
    if not ids:
        return {}
    starts = RunEvent.objects.filter(run_id__in=ids, to_state=RunState.RUNNING).order_by("-id")
    return dict(starts.values_list("run_id", "at"))


def why_not(why: NoRetry, policy: RetryPolicy) -> str:
    """The sentence to add to the failure of a run that is not tried again; empty where nobody would expect it to be."""
    match why:
        case NoRetry.USED_UP if policy.retry_count:
            return f"Retries used up: {policy.retry_count} of {policy.retry_count}."
        case NoRetry.NOT_RETRYABLE:
            return "Not tried again: the task says that this failure is final (never_retry)."
        case NoRetry.BUDGET:
            seconds = policy.budget_seconds or 0.0
            return (
                f"Not tried again: it would start more than {seconds:g} s after its first start (retry_budget_seconds)."
            )
    return ""
