"""Jitter is stable, bounded and even."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.jitter import jittered
from tests.tasks_app.clock import at

NOMINAL = at("2026-03-02T10:00Z")
NEXT = NOMINAL + timedelta(minutes=5)


def test_the_answer_is_the_same_on_every_machine():
    assert jittered(NOMINAL, NEXT, 60, "7") == at("2026-03-02T10:00:01.658314Z")
    assert jittered(NOMINAL.astimezone(ZoneInfo("Asia/Shanghai")), NEXT, 60, "7") == jittered(NOMINAL, NEXT, 60, "7")


def test_another_key_and_another_time_are_spread_differently():
    found = {jittered(NOMINAL, None, 3600, str(key)) for key in range(500)}
    assert len(found) > 490
    waits = {jittered(NOMINAL + timedelta(days=day), None, 3600, "7") - timedelta(days=day) for day in range(500)}
    assert len(waits) > 490


def test_the_spread_is_even():
    late = sum(jittered(NOMINAL, None, 100, str(key)) - NOMINAL >= timedelta(seconds=50) for key in range(2000))
    assert 900 < late < 1100


@pytest.mark.parametrize("most", [0, -5])
def test_without_jitter_the_nominal_time_stays(most):
    assert jittered(NOMINAL, NEXT, most, "7") == NOMINAL


@settings(deadline=None)
@given(
    gap=st.one_of(st.none(), st.timedeltas(timedelta(microseconds=1), timedelta(days=400))),
    most=st.floats(0, 10**7),
    key=st.text(),
    nominal=st.datetimes(at("1990-01-01").replace(tzinfo=None), timezones=st.just(ZoneInfo("Europe/Berlin"))).filter(
        lambda moment: moment.year < 9990
    ),
)
def test_a_run_is_never_due_early_nor_too_late_nor_at_the_next_instant(
    gap: timedelta | None, most: float, key: str, nominal: datetime
) -> None:
    nominal = nominal.astimezone(at("2026-01-01T00:00Z").tzinfo)
    following = None if gap is None else nominal + gap
    found = jittered(nominal, following, most, key)
    assert nominal <= found <= nominal + timedelta(seconds=most)
    assert following is None or found < following
