"""When a failed run is tried again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.retry import (
    MAX_DELAY_SECONDS,
    Decision,
    Failure,
    NoRetry,
    RetryPolicy,
    backoff_seconds,
    decide,
    exception_names,
    is_final,
    next_attempt,
    should_auto_pause,
)

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
UNKNOWN = Failure()


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 10), (2, 20), (3, 40), (9, 2560), (10, 3600), (400, 3600)])
def test_the_delay_doubles_up_to_an_hour(attempt, seconds):
    due = next_attempt(attempt=attempt, retry_count=1000, delay_seconds=10, now=NOW)
    assert due == NOW + timedelta(seconds=seconds)


def test_no_retry_is_left_after_as_many_as_allowed():
    assert next_attempt(attempt=1, retry_count=0, delay_seconds=10, now=NOW) is None
    assert next_attempt(attempt=3, retry_count=3, delay_seconds=0, now=NOW) == NOW
    assert next_attempt(attempt=4, retry_count=3, delay_seconds=0, now=NOW) is None


@pytest.mark.parametrize(
    ("asked", "seconds"), [(0, 0), (7.5, 7.5), (-3, 0), (1e12, MAX_DELAY_SECONDS), (float("nan"), 0)]
)
def test_a_delay_that_the_run_asks_for_takes_the_place_of_the_other(asked, seconds):
    due = next_attempt(attempt=1, retry_count=1, delay_seconds=10, now=NOW, asked_delay=asked)
    assert due == NOW + timedelta(seconds=seconds)


# The whole policy


def tried(policy: RetryPolicy, failure: Failure = UNKNOWN, *, attempt: int = 1, **more: Any) -> Decision:
    return decide(policy, failure, attempt=attempt, now=NOW, **more)


def test_jitter_takes_a_random_share_of_the_whole_delay():
    policy = RetryPolicy(retry_count=9, delay_seconds=10, jitter=True)
    for share, seconds in ((0.0, 0), (0.25, 10), (0.999, 39.96)):
        assert tried(policy, attempt=3, random=lambda share=share: share).at == NOW + timedelta(seconds=seconds)
    steady = replace(policy, jitter=False)
    assert tried(steady, attempt=3, random=lambda: 0.25).at == NOW + timedelta(seconds=40)
    assert tried(policy, attempt=3).at == NOW + timedelta(seconds=40), "without a source of chance"


def test_the_cap_is_the_tasks_own():
    policy = RetryPolicy(retry_count=9, delay_seconds=10, cap_seconds=25)
    assert [backoff_seconds(policy, attempt) for attempt in (1, 2, 3, 999)] == [10, 20, 25, 25]


def test_an_asked_delay_is_neither_jittered_nor_capped_by_the_task():
    policy = RetryPolicy(retry_count=9, delay_seconds=10, cap_seconds=25, jitter=True)
    assert tried(policy, asked_delay=60, random=lambda: 0.1).at == NOW + timedelta(seconds=60)
    assert tried(policy, asked_delay=7200).at == NOW + timedelta(seconds=MAX_DELAY_SECONDS)


@pytest.mark.parametrize(
    ("failure", "final"),
    [
        (Failure(), False),
        (Failure(exit_code=2), True),
        (Failure(exit_code=1), False),
        (Failure(exit_code=0), False),
        (Failure(status=404), True),
        (Failure(status=409), False),
        (Failure(status=503), True),
        (Failure(exceptions=("ValueError", "Exception")), True),
        (Failure(exceptions=("shop.errors.SoldOut", "Exception")), True),
        (Failure(exceptions=("shop.other.SoldOut", "Exception")), False),
        (Failure(exceptions=("json.decoder.JSONDecodeError", "ValueError")), True),
        (Failure(exceptions=("decimal.Rounded", "ArithmeticError")), True),
        (Failure(exceptions=("OSError",), exit_code=1, status=200), False),
    ],
)
def test_some_failures_are_final(failure, final):
    policy = RetryPolicy(
        retry_count=3,
        never_exit_codes=frozenset({2}),
        never_statuses=frozenset({"404", "5xx"}),
        never_exceptions=frozenset({"ValueError", "shop.errors.SoldOut", "Rounded"}),
    )
    assert is_final(policy, failure) is final
    found = tried(policy, failure, asked_delay=5)
    assert (found.at is None, found.why) == (final, NoRetry.NOT_RETRYABLE if final else NoRetry.RETRIED)
    assert tried(policy, failure, attempt=4).why is NoRetry.USED_UP


def test_an_error_is_known_by_its_class_and_all_that_it_derives_from():
    names = exception_names(json.JSONDecodeError("x", "y", 0))
    assert names == ("json.decoder.JSONDecodeError", "ValueError", "Exception", "BaseException")


@pytest.mark.parametrize(("started_ago", "retried"), [(0, True), (90, True), (90.001, False), (500, False)])
def test_no_retry_begins_after_the_budget_is_spent(started_ago, retried):
    policy = RetryPolicy(retry_count=3, delay_seconds=10, budget_seconds=100)
    found = tried(policy, first_started_at=NOW - timedelta(seconds=started_ago))
    assert found == (Decision(NOW + timedelta(seconds=10)) if retried else Decision(None, NoRetry.BUDGET))


def test_a_budget_bounds_an_asked_delay_too():
    policy = RetryPolicy(retry_count=3, budget_seconds=100)
    assert tried(policy, asked_delay=100).at == NOW + timedelta(seconds=100)
    assert tried(policy, asked_delay=101).why is NoRetry.BUDGET


@pytest.mark.parametrize(
    ("failures", "limit", "paused"),
    [(5, 5, True), (6, 5, True), (4, 5, False), (99, None, False), (99, 0, False), (0, 0, False), (0, 1, False)],
)
def test_a_task_is_paused_after_so_many_failures_in_a_row(failures, limit, paused):
    assert should_auto_pause(failures, limit) is paused


@settings(deadline=None)
@given(
    policy=st.builds(
        RetryPolicy,
        retry_count=st.integers(0, 50),
        delay_seconds=st.floats(0, 1e9),
        cap_seconds=st.floats(0, 1e5),
        jitter=st.booleans(),
        budget_seconds=st.none() | st.floats(0, 1e5),
    ),
    attempt=st.integers(1, 60),
    share=st.floats(0, 1, exclude_max=True),
    ago=st.floats(0, 1e5),
    asked=st.none() | st.floats(-1e6, 1e12),
)
def test_a_retry_lies_between_now_and_every_bound(
    policy: RetryPolicy, attempt: int, share: float, ago: float, asked: float | None
) -> None:
    started = NOW - timedelta(seconds=ago)
    found = tried(policy, attempt=attempt, first_started_at=started, asked_delay=asked, random=lambda: share)
    assert (found.at is None) is bool(found.why)
    if found.at is None:
        assert attempt > policy.retry_count or found.why is NoRetry.BUDGET
        return
    assert attempt <= policy.retry_count
    most = MAX_DELAY_SECONDS if asked is not None else backoff_seconds(policy, attempt)
    assert timedelta(0) <= found.at - NOW <= timedelta(seconds=most)
    assert policy.budget_seconds is None or (found.at - started).total_seconds() <= policy.budget_seconds
