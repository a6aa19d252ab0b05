"""Which calendar documents are refused, at which path and with which sentence; and where holidays come from."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.calendar_documents import CalendarError, parse
from tasks_app.calendars import Calendar
from tasks_app.holiday_dates import UnknownHolidays, holiday_dates
from tests.tasks_app.clock import at


def with_rule(**rule: Any) -> dict[str, Any]:
    return {"blackout": [{"kind": "weekly"}, rule]}


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ([], "", "an object"),
        ({"zone": "UTC"}, "zone", "Unknown; allowed are allowed, blackout, time_zone"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "unknown"),
        ({"time_zone": 7}, "time_zone", "IANA"),
        ({"allowed": {}}, "allowed", "a list"),
        ({"allowed": [{"kind": "weekly"}] * 101}, "allowed", "0 to 100"),
        ({"allowed": ["x"]}, "allowed[0]", "an object"),
        (with_rule(kind="monthly"), "blackout[1].kind", "weekly, range, dates"),
        (with_rule(kind=["weekly"]), "blackout[1].kind", "weekly, range, dates"),
        (with_rule(), "blackout[1].kind", "weekly, range, dates"),
        (with_rule(kind="weekly", name=""), "blackout[1].name", "1 to 100"),
        (with_rule(kind="weekly", name="a\nb"), "blackout[1].name", "one line"),
        (with_rule(kind="weekly", dates=[]), "blackout[1].dates", "Unknown; allowed are days, from, kind, name, to"),
        (with_rule(kind="weekly", days=[]), "blackout[1].days", "1 to 7"),
        (with_rule(kind="weekly", days=["mon", "Tue"]), "blackout[1].days[1]", "mon, tue"),
        (with_rule(kind="weekly", days=[1]), "blackout[1].days[0]", "mon, tue"),
        (with_rule(kind="weekly", **{"from": "9:00"}), "blackout[1].from", "09:30"),
        (with_rule(kind="weekly", **{"from": "09:60"}), "blackout[1].from", "09:30"),
        (with_rule(kind="weekly", **{"from": 9}), "blackout[1].from", "09:30"),
        (with_rule(kind="weekly", **{"from": "24:00"}), "blackout[1].from", "before 24:00"),
        (with_rule(kind="weekly", to="24:01"), "blackout[1].to", "09:30"),
        (with_rule(kind="weekly", to="00:00"), "blackout[1].to", "differ"),
        (with_rule(kind="dates"), "blackout[1].dates", "a list"),
        (with_rule(kind="dates", dates=["2026-02-30"]), "blackout[1].dates[0]", "a date"),
        (with_rule(kind="dates", dates=["2026-02-03", 20260204]), "blackout[1].dates[1]", "a date"),
        (with_rule(kind="dates", dates=["0001-02-03"]), "blackout[1].dates[0]", "1900 to 2999"),
        (with_rule(kind="range", to="2026-01-01"), "blackout[1].from", "without offset"),
        (with_rule(kind="range", to="2026-01-01", **{"from": "2026-01-02"}), "blackout[1].to", "after the start"),
        (
            with_rule(kind="range", to="2026-01-01T10:00Z", **{"from": "2026-01-01T09:00"}),
            "blackout[1].to",
            "without offset",
        ),
        (with_rule(kind="range", to="2026-01-01T25:00", **{"from": "2026-01-01"}), "blackout[1].to", "no such"),
        (with_rule(kind="range", to="9999-12-31", **{"from": "2026-01-01"}), "blackout[1].to", "1900 to 2999"),
        (with_rule(kind="range", to="9999-12-31T00:00", **{"from": "2026-01-01"}), "blackout[1].to", "1900 to 2999"),
    ],
)
def test_a_fault_is_named_with_its_place(document, path, words):
    with pytest.raises(CalendarError) as caught:
        parse(document)
    assert caught.value.path == path
    assert words in caught.value.message
    assert caught.value.message in str(caught.value)


def test_what_may_be_left_out_has_its_default():
    assert parse({}) == Calendar()
    whole = parse({"allowed": [{"kind": "weekly"}]})
    assert whole.allowed[0].name == "weekly"
    assert whole.allows(at("2026-03-07T23:59:59Z"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["weekly", "range", "09:00"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["kind", "days", "from", "to", "dates", "name", "allowed", "blackout", "time_zone"]), inner
        )
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(JSON)
def test_any_json_value_is_read_or_refused(document: Any) -> None:
    try:
        parse(document)
    except CalendarError as error:
        assert error.message.endswith(".")


# Holidays


def test_chinas_holidays_come_with_the_weekends_that_are_worked_for_them():
    found = holiday_dates("CN", None, [2025])
    days = [day for day, _ in found.holidays]
    assert date(2025, 10, 1) in days and date(2025, 9, 28) not in days
    assert date(2025, 9, 28) in found.working_days and date(2025, 10, 11) in found.working_days
    assert {day.year for day in (*days, *found.working_days)} == {2025}
    assert not set(days) & set(found.working_days)


def test_holidays_and_worked_weekends_become_a_calendar():
    found = holiday_dates("CN", None, [2025, 2026])
    worked = found.allowed_rule("Make-up days", "09:00", "18:00")
    assert worked is not None
    office = {"kind": "weekly", "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "18:00"}
    calendar = parse(
        {"time_zone": "Asia/Shanghai", "allowed": [office, worked], "blackout": [found.blackout_rule("Holidays")]}
    )
    assert calendar.next_allowed(at("2025-09-27T02:00Z")) == at("2025-09-28T01:00Z")
    assert calendar.next_allowed(at("2025-10-01T02:00Z")) == at("2025-10-09T01:00Z")
    assert '"Holidays"' in calendar.reason(at("2025-10-01T02:00Z"))


def test_a_subdivision_adds_its_own_days():
    everywhere = {day for day, _ in holiday_dates("DE", None, [2026]).holidays}
    bavaria = {day for day, _ in holiday_dates("DE", "BY", [2026]).holidays}
    assert everywhere < bavaria
    assert holiday_dates("DE", "BY", [2026]).allowed_rule("none") is None


@pytest.mark.parametrize(
    ("country", "subdivision", "years"),
    [("XX", None, [2026]), ("DE", "ZZ", [2026]), ("", None, [2026]), ("DE", None, []), ("DE", None, [1066])],
)
def test_unknown_places_and_years_are_refused(country, subdivision, years):
    with pytest.raises(UnknownHolidays) as caught:
        holiday_dates(country, subdivision, years)
    assert caught.value.message.endswith(".")
