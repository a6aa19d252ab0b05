"""The history checker finds what it is for, and nothing in a history that is as it must be."""

from __future__ import annotations

import pytest

from tests.acceptance.chaos.history import Line, _of_both, _of_the_file, _Row

WELL = ["1 1 start", "1 1 beat", "2 1 start", "1 2 start", "1 2 end", "2 1 end"]


def lines(*written: str, token: int = 7) -> list[Line]:
    words = [text.split() for text in written]
    return [Line(int(run), int(attempt), token, what) for run, attempt, what in words]


def row(state: str, attempt: int = 1, *, again: bool = True, upstream_given_up: bool = False) -> _Row:
    return _Row(state, attempt, again, upstream_given_up)


def test_a_second_attempt_after_the_first_has_fallen_silent_is_as_it_must_be():
    rows = {1: row("succeeded", 2), 2: row("succeeded", again=False), 3: row("lost", again=False)}
    assert list(_of_the_file(lines(*WELL))) == []
    assert list(_of_both(lines(*WELL), rows)) == []


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ([*WELL, "2 1 start"], "attempt 1 was started twice"),
        ([*WELL, "1 1 beat"], "attempt 1 went on beside attempt 2"),
        (["1 2 start", "1 1 start"], "attempt 1 was started after attempt 2"),
        (["1 1 beat"], "was never started"),
    ],
)
def test_the_order_of_the_lines_shows_what_ran_twice_or_beside_another(written, fault):
    (found,) = list(_of_the_file(lines(*written)))[:1]
    assert fault in found


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ({1: row("succeeded", 1), 2: row("succeeded")}, "succeeded at attempt 1, which did not come to its end"),
        ({1: row("succeeded", 2, again=False), 2: row("succeeded")}, "may run once, and did at attempts [1, 2]"),
        ({1: row("lost", 2), 2: row("succeeded")}, "may run again, and is lost"),
        ({1: row("failed", 2), 2: row("succeeded")}, "run 1 is failed"),
        ({1: row("succeeded", 2)}, "run 2 was started, and there is no such run"),
        ({1: row("succeeded", 2), 2: row("succeeded"), 3: row("upstream_failed")}, "run 3 is upstream_failed"),
        ({1: row("succeeded", 2), 2: row("succeeded", upstream_given_up=True)}, "run 2 is succeeded"),
    ],
)
def test_what_the_database_says_is_held_against_what_was_done(rows, fault):
    assert any(fault in found for found in _of_both(lines(*WELL), rows))


def test_what_waited_for_a_run_that_was_given_up_fails_with_it():
    rows = {1: row("succeeded", 2), 2: row("succeeded"), 3: row("upstream_failed", upstream_given_up=True)}
    assert list(_of_both(lines(*WELL), rows)) == []
