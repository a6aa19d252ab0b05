"""Limits of requests in a minute, shared by processes that ask the database only now and then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from access_app import rates
from access_app.models import RateCount

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def passed(number: int, *, limit: int, who: str = "key 1", now: datetime = NOW) -> int:
    return sum(rates.take("requests", who, limit, now=now).allowed for _ in range(number))


@pytest.mark.parametrize("limit", [1, 3, 99, 100, 250, 1001])
def test_exactly_as_many_pass_as_the_limit_says_and_others_have_their_own(db, limit):
    assert passed(limit + 20, limit=limit) == limit
    assert passed(1, limit=limit, who="key 2") == 1
    assert passed(limit, limit=limit, now=NOW + timedelta(minutes=1)) == limit


def test_sixty_requests_cost_one_statement_and_those_that_are_refused_cost_none(db, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert passed(60, limit=6000) == 60
    with django_assert_num_queries(99):
        assert passed(5940, limit=6000) == 5940
    with django_assert_num_queries(0):
        assert passed(1000, limit=6000) == 0


def test_two_processes_together_let_no_more_pass_than_one(db):
    together = 0
    for _ in range(40):
        # A process that knows nothing yet takes up where the others are.
        rates.forget()
        together += passed(5, limit=100)
    assert together == 100


def test_what_remains_goes_down_by_one_and_begins_anew_when_the_answer_said(db):
    standings = [rates.take("requests", "key 1", 3, now=NOW) for _ in range(4)]
    assert [one.remaining for one in standings] == [2, 1, 0, 0]
    assert [one.allowed for one in standings] == [True, True, True, False]
    wait = standings[-1].seconds
    assert 0 < wait <= 60
    assert not rates.take("requests", "key 1", 3, now=NOW + timedelta(seconds=wait - 1)).allowed
    assert rates.take("requests", "key 1", 3, now=NOW + timedelta(seconds=wait)).allowed
    many = [rates.take("requests", "key 2", 6000, now=NOW).remaining for _ in range(200)]
    assert many == list(range(5999, 5799, -1))


def test_a_process_whose_clock_is_behind_gives_nothing_back(db):
    assert passed(5, limit=5) == 5
    rates.forget()
    assert passed(5, limit=5, now=NOW - timedelta(minutes=1)) == 0
    rates.forget()
    assert passed(5, limit=5) == 0


def test_another_limit_holds_from_the_next_request_on(db):
    assert passed(10, limit=1_000_000) == 10
    # A share of the large one does not use up the small one.
    assert passed(10, limit=5) == 5
    rates.forget()
    assert passed(10, limit=2000) == 10


def test_kinds_are_counted_apart(db):
    assert passed(5, limit=5) == 5
    assert rates.take("costly", "key 1", 5, now=NOW).allowed


def test_counts_of_those_who_ask_no_more_are_deleted_and_the_others_stay(db, monkeypatch):
    monkeypatch.setattr(rates, "PRUNE_EVERY", 1)
    passed(1, limit=10, who="key 1")
    passed(1, limit=10, who="key 2", now=NOW + timedelta(minutes=8))
    passed(1, limit=10, who="key 3", now=NOW + timedelta(minutes=15))
    assert RateCount.objects.count() == 2


def test_a_process_remembers_only_so_many(db, monkeypatch):
    monkeypatch.setattr(rates, "REMEMBERED", 10)
    for number in range(100):
        passed(1, limit=10, who=f"key {number}")
    assert len(rates._counts) <= 10
    assert passed(10, limit=10, who="key 0") == 9
