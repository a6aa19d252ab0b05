"""The cron module against recorded facts, a second implementation and its own promises."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app import cron as module
from tasks_app import cron_fields
from tasks_app.cron import (
    CronError,
    badges,
    count_between,
    describe,
    fires_between,
    last_fire,
    next_fire,
    parse,
    upcoming,
    zone,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "cron_vectors.json").read_text())
BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def seconds_taken(call: Callable[[], object]) -> float:
    """The best of five tries, so that a busy machine does not decide."""
    tries = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        tries.append(time.perf_counter() - start)
    return min(tries)


def refused(expression: str) -> str:
    with pytest.raises(CronError) as caught:
        parse(expression)
    return caught.value.message


# Recorded facts


@pytest.mark.parametrize("vector", VECTORS["strict"], ids=lambda vector: vector["id"])
def test_the_fires_are_those_of_crontab(vector: dict[str, Any]) -> None:
    expected = [at(text) for text in vector["expected"]]
    assert upcoming(parse(vector["expr"]), vector["tz"], at(vector["base"]), len(expected)) == expected


@pytest.mark.parametrize("vector", VECTORS["strict"], ids=lambda vector: vector["id"])
def test_the_normalised_expression_means_the_same(vector: dict[str, Any]) -> None:
    cron = parse(vector["expr"])
    again = parse(cron.expression)
    assert again == cron
    assert again.expression == cron.expression
    base, count = at(vector["base"]), len(vector["expected"])
    assert upcoming(again, vector["tz"], base, count) == upcoming(cron, vector["tz"], base, count)


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: ascii(vector["expr"]))
def test_a_malformed_expression_is_refused_with_a_sentence(vector: dict[str, Any]) -> None:
    message = refused(vector["expr"])
    assert message.startswith("The ")
    assert message.endswith(".")
    assert message.isascii()
    assert "allowed are" in message or "can never fire" in message


@pytest.mark.parametrize("vector", VECTORS["must_accept"], ids=lambda vector: vector["expr"])
def test_what_crontab_accepts_is_accepted(vector: dict[str, Any]) -> None:
    assert next_fire(parse(vector["expr"]), "UTC", at("2026-01-01T00:00:00Z")) is not None


@pytest.mark.parametrize("vector", VECTORS["missed_run"], ids=lambda vector: vector["note"])
def test_missed_fires_are_found_and_counted(vector: dict[str, Any]) -> None:
    cron, after, until = parse(vector["expr"]), at(vector["last_known"]), at(vector["now"])
    fires = fires_between(cron, vector["tz"], after, until, limit=1000)
    if "due" in vector:
        assert fires == [at(text) for text in vector["due"]]
    assert len(fires) == vector.get("due_count", len(fires))
    assert count_between(cron, vector["tz"], after, until) == len(fires)
    assert last_fire(cron, vector["tz"], until, since=after) == (fires[-1] if fires else None)


# Parsing


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("61 * * * *", "The minute field has '61': '61' is out of bounds; allowed are numbers 0-59."),
        ("0 24 * * *", "The hour field has '24': '24' is out of bounds; allowed are numbers 0-23."),
        ("60 0 0 * * *", "The second field has '60': '60' is out of bounds; allowed are numbers 0-59."),
        ("0 0 5-1 * *", "The day-of-month field has '5-1': the range is in the wrong order; "),
        ("0 0 * foo *", "The month field has 'FOO': 'FOO' is not a value; "),
        ("0 0 * * L", "The day-of-week field has 'L': 'L' is not a value; "),
        ("0 0 15W * *", "The day-of-month field has '15W': '15W' is not a value; "),
        ("0 0 L-3 * *", "The day-of-month field has 'L-3': 'L' is not a value; "),
        ("L 0 * * *", "The minute field has 'L': 'L' is not a value; "),
        ("0 0 * * 5#6", "The day-of-week field has '5#6': '5#6' is not a value; "),
        ("0 0 * * 1-5#2", "The day-of-week field has '1-5#2': '1-5' is not a value; "),
        ("*/0 * * * *", "The minute field has '*/0': the step after / is wrong; allowed are whole numbers from 1."),
        ("H(1-70) * * * *", "The minute field has 'H(1-70)': '70' is out of bounds; "),
        ("H(5) * * * *", "The minute field has 'H(5)': H is written wrong; "),
        ("0 0 1 1", "The expression has 4 fields; "),
        ("", "The expression has 0 fields; "),
        ("@Daily", "The expression '@Daily' is no nickname; allowed are @hourly, "),
        ("@daily 5", "The expression '@daily 5' is no nickname; "),
        ("0 0 * *\n*", "The expression has the character '\\n'; "),
        ("\u0660 * * * *", "The expression has the character '\\u0660'; "),
    ],
)
def test_the_message_names_the_field_and_what_is_allowed(expression: str, field: str) -> None:
    assert refused(expression).startswith(field)


@pytest.mark.parametrize(
    "expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30,31 2 */2", "0 0 */31 2 2#2", "0 0 */30 2 6#5"]
)
def test_an_expression_that_no_date_matches_can_never_fire(expression: str) -> None:
    message = refused(expression)
    assert "can never fire" in message
    assert "month 2" in message or "month 4,6,9,11" in message


@pytest.mark.parametrize(
    ("expression", "after", "fire"),
    [
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 1", "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"),
        ("0 0 29 2 */7", "2033-01-01T00:00:00Z", "2060-02-29T00:00:00Z"),
        ("0 0 29 2 */7", "2073-01-01T00:00:00Z", "2088-02-29T00:00:00Z"),
        ("0 0 29 2 */7", "2088-03-01T00:00:00Z", "2128-02-29T00:00:00Z"),
        ("0 0 30 2 1", "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"),
    ],
)
def test_a_rare_date_is_accepted_and_found(expression: str, after: str, fire: str) -> None:
    assert next_fire(parse(expression), "UTC", at(after)) == at(fire)


@pytest.mark.parametrize(
    ("expression", "normalised", "fixed_time"),
    [
        ("@hourly", "0 * * * *", False),
        ("@daily", "0 0 * * *", True),
        ("@midnight", "0 0 * * *", True),
        ("@weekly", "0 0 * * 0", True),
        ("@monthly", "0 0 1 * *", True),
        ("@yearly", "0 0 1 1 *", True),
        ("@annually", "0 0 1 1 *", True),
        (" 05\t04  * JAN-mar Sun,7 ", "5 4 * 1-3 0", True),
        ("5/20 1-1/3 * * fri-7", "5-59/20 1 * * 5-7", True),
        ("*/1 */2 * * *", "* */2 * * *", False),
        ("0 2 l * friL,mon#2,7#1", "0 2 L * 5L,1#2,0#1", True),
        ("* 0 2 * * *", "* 0 2 * * *", False),
        ("30 0 2 * * *", "30 0 2 * * *", True),
    ],
)
def test_the_expression_is_normalised(expression: str, normalised: str, fixed_time: bool) -> None:
    cron = parse(expression)
    assert cron.expression == normalised
    assert cron.fixed_time is fixed_time
    assert cron.has_seconds is (len(normalised.split()) == 6)
    assert hash(cron) == hash(parse(normalised))


def test_equal_expressions_are_one_key() -> None:
    assert len({parse("@daily"), parse("00 0 * * *"), parse("0 0 * * *")}) == 1
    assert parse("0 0 * * *") != parse("0 1 * * *")


def test_h_is_stable_per_key_and_spreads_over_keys() -> None:
    def normalised(name: str) -> str:
        return parse("H H * * *", hash_key=name).expression

    assert normalised("backup") == normalised("backup") == "52 16 * * *"
    assert len({normalised(f"task {number}") for number in range(200)}) > 150
    assert {parse("H * * * *", hash_key=f"{n}").minutes[0] for n in range(2000)} == set(range(60))


@given(key=st.text(max_size=20))
def test_h_stays_inside_its_range_and_keeps_its_step(key: str) -> None:
    assert 10 <= parse("H(10-20) * * * *", hash_key=key).minutes[0] <= 20
    minutes = parse("H/15 * * * *", hash_key=key).minutes
    assert len(minutes) == 4 and minutes[0] < 15 and minutes[3] - minutes[0] == 45
    inside = parse("H(5-24)/10 * * * *", hash_key=key).minutes
    assert len(inside) == 2 and 5 <= inside[0] < 15 and inside[1] == inside[0] + 10
    assert max(parse("0 0 H * *", hash_key=key).days) <= 28


HOSTILE = [
    "," * 256,
    "*" * 256,
    "-" * 256,
    "9" * 248 + " * * * *",
    ",".join(["0-59"] * 49) + " * * * *",
    ",".join(["*/1"] * 62) + " * * * *",
    "* " * 128,
    "H(" * 124 + " * * * *",
    "* * * * " + "#" * 248,
    "* * * * " + ",".join(["5#1"] * 62),
    "*/" + "9" * 240 + " * * * *",
    "0-59,0-59 0-59,0-59 0-23,0-23 1-31,1-31 1-12,1-12 0-7,0-7",
    "* * * * * *",
    "0 0 30 2 *",
    "* * * 30,31 2 *",
    "0 0 31 2,4,6,9,11 *",
    "0 0 29 2 *",
    "0 0 29 2 */7",
    "0 0 */30 2 6#5",
]


@pytest.mark.parametrize("expression", HOSTILE, ids=lambda text: text[:24])
def test_any_string_is_answered_in_50_ms(expression: str) -> None:
    def answer() -> None:
        cron_fields._parse.cache_clear()
        with suppress(CronError):
            next_fire(parse(expression), BERLIN, at("2033-01-01T00:00:00Z"))

    assert seconds_taken(answer) < 0.05


def test_257_characters_are_too_many_and_256_are_not() -> None:
    expression = "0" * 248 + " * * * *"
    assert parse(expression).expression == "0 * * * *"
    assert refused("0" + expression) == "The expression has 257 characters; allowed are at most 256."
    assert "10000000 characters" in refused("1" * 10_000_000)


@given(st.text(alphabet="0123456789*,-/#LHWjanfebsumo?()@ \t\u00b2", max_size=60) | st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    cron = None
    with suppress(CronError):
        cron = parse(text)
    if cron is not None:
        assert parse(cron.expression) == cron
        assert describe(cron, "UTC").endswith("(UTC)")


# Zones


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "../../etc/passwd", "/etc/localtime", "localtime", "posixrules", "Factory", "Europe", "europe/berlin",
        "Europe/Berlin\n", "Europe/../Europe/Berlin", "right/UTC", "posix/UTC", "Nowhere/City", "Europe\\Berlin",
        "zone.tab", "UTC\x00", "\uff35TC", "A" * 100_000,
    ],
    ids=lambda name: ascii(name[:24]),
)  # fmt: skip
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(CronError) as caught:
        zone(name)
    assert "is unknown; allowed are IANA names" in caught.value.message
    assert len(caught.value.message) < 600
    with pytest.raises(CronError):
        next_fire(parse("* * * * *"), name, at("2026-01-01T00:00:00Z"))


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"])
def test_an_iana_zone_is_known(name: str) -> None:
    assert zone(name).key == name


# Clock changes


def times(expression: str, name: str, after: str, until: str, **policy: Any) -> list[str]:
    fires = fires_between(parse(expression), name, at(after), at(until), limit=1000, **policy)
    assert all(fire.tzinfo is UTC for fire in fires)
    return [fire.strftime("%d %H:%M:%S").removesuffix(":00") for fire in fires]


def test_a_fixed_time_in_the_gap_runs_after_it_or_is_skipped() -> None:
    day = ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z")
    assert times("30 2 * * *", BERLIN, *day) == ["29 01:00"]
    assert times("30 2 * * *", BERLIN, *day, gap="run_after") == ["29 01:00"]
    assert times("30 2 * * *", BERLIN, *day, gap="skip") == []
    assert times("0,15,30 2,3 * * *", BERLIN, *day) == ["29 01:00", "29 01:15", "29 01:30"]
    assert times("30 1,3 * * *", BERLIN, *day) == ["29 00:30", "29 01:30"]


def test_a_wildcard_job_follows_the_wall_clock_over_the_gap() -> None:
    day = ("2026-03-28T23:50:00Z", "2026-03-29T02:10:00Z")
    for gap in ("run_after", "skip"):
        assert times("30 * * * *", BERLIN, *day, gap=gap) == ["29 00:30", "29 01:30"]
        assert times("*/30 2 * * *", BERLIN, *day, gap=gap) == []


def test_a_fixed_time_in_the_repeated_hour_runs_first_or_both() -> None:
    day = ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z")
    assert times("30 2 * * *", BERLIN, *day) == ["25 00:30"]
    assert times("30 2 * * *", BERLIN, *day, repeat="both") == ["25 00:30", "25 01:30"]
    assert times("0,30 2 * * *", BERLIN, *day, repeat="both") == ["25 00:00", "25 00:30", "25 01:00", "25 01:30"]
    assert times("30 1,3 * * *", BERLIN, *day, repeat="both") == ["24 23:30", "25 02:30"]
    for repeat in ("first", "both"):
        assert times("30 */2 * * *", BERLIN, *day, repeat=repeat)[6:8] == ["25 00:30", "25 01:30"]


def test_seconds_keep_their_order_in_a_repeated_half_hour() -> None:
    window = ("2026-04-04T14:30:00Z", "2026-04-04T15:31:00Z")
    expected = ["04 14:44:30", "04 14:59:30", "04 15:14:30", "04 15:29:30"]
    assert times("30 14,29,44,59 * * * *", "Australia/Lord_Howe", *window) == expected
    assert times("30 44 1 * * *", "Australia/Lord_Howe", *window) == ["04 14:44:30"]
    assert times("30 44 1 * * *", "Australia/Lord_Howe", *window, repeat="both") == ["04 14:44:30", "04 15:14:30"]


def test_a_repeated_hour_behind_midnight_comes_in_order() -> None:
    # At 00:01 of 7 November 2010 the clocks of St. John's went back to 23:01 of the day before.
    window = ("2010-11-07T02:00:00Z", "2010-11-07T03:59:00Z")
    assert times("*/30 * * * *", "America/St_Johns", *window) == ["07 02:30", "07 03:00", "07 03:30"]
    assert times("0 0 * * *", "America/St_Johns", *window) == ["07 02:30"]
    assert times("0 0 * * *", "America/St_Johns", *window, repeat="both") == ["07 02:30", "07 03:30"]
    assert times("0 0,23 * * *", "America/St_Johns", *window, repeat="both") == ["07 02:30", "07 03:30"]
    assert times("30 23 6 11 *", "America/St_Johns", *window, repeat="both") == ["07 03:00"]


def test_a_gap_at_midnight_moves_the_job_to_the_first_instant_of_the_day() -> None:
    window = ("2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z")
    assert times("0 0 * * *", "America/Sao_Paulo", *window) == ["04 03:00", "05 02:00"]
    assert times("0 0 * * *", "America/Sao_Paulo", *window, gap="skip") == ["05 02:00"]


def test_a_lost_day_gets_no_help() -> None:
    # Samoa went from 29 to 31 December 2011.
    window = ("2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z")
    assert times("0 12 * * *", "Pacific/Apia", *window) == ["29 22:00", "30 22:00", "31 22:00"]
    assert times("0 12 30 12 *", "Pacific/Apia", *window) == []


def test_a_day_lived_twice_runs_twice() -> None:
    # Kwajalein crossed the date line on 30 September 1969: 23 hours came again.
    window = ("1969-09-29T12:00:00Z", "1969-10-01T12:00:00Z")
    assert times("0 12 * * *", "Pacific/Kwajalein", *window) == ["30 01:00", "01 00:00"]
    assert badges(parse("0 12 * * *"), "Pacific/Kwajalein", at("1969-10-01T00:00:00Z")) == ["dst_repeat_second"]


def test_badges_mark_the_days_on_which_the_clock_matters() -> None:
    daily, hourly = parse("30 2 * * *"), parse("30 * * * *")
    moved = at("2026-03-29T01:00:00Z")
    assert badges(daily, BERLIN, moved) == ["dst_gap"]
    assert badges(daily, BERLIN, moved, gap="skip", repeat="both") == []
    assert badges(parse("0 3 * * *"), BERLIN, moved) == []
    assert badges(parse("0 2,3 * * *"), BERLIN, moved) == ["dst_gap"]
    assert badges(parse("0 * * * *"), BERLIN, moved) == []
    assert badges(daily, BERLIN, at("2026-03-30T00:30:00Z")) == []
    for cron in (daily, hourly):
        assert badges(cron, BERLIN, at("2026-10-25T00:30:00Z")) == ["dst_repeat_first"]
        assert badges(cron, BERLIN, at("2026-10-25T01:30:00Z")) == ["dst_repeat_second"]
    assert badges(hourly, BERLIN, at("2026-10-25T02:30:00Z")) == []
    assert badges(hourly, "UTC", at("2026-10-25T01:30:00Z")) == []
    assert badges(daily, BERLIN, moved.astimezone(zone(BERLIN))) == ["dst_gap"]


# The time line


def test_after_is_excluded_and_until_is_included() -> None:
    cron, hour = parse("0 * * * *"), at("2026-01-01T05:00:00Z")
    assert next_fire(cron, "UTC", hour) == hour + timedelta(hours=1)
    assert next_fire(cron, "UTC", hour - timedelta(microseconds=1)) == hour
    assert fires_between(cron, "UTC", hour - timedelta(hours=1), hour, limit=9) == [hour]
    assert fires_between(cron, "UTC", hour, hour + timedelta(minutes=59), limit=9) == []
    assert last_fire(cron, "UTC", hour) == hour
    assert last_fire(cron, "UTC", hour, since=hour) is None
    assert last_fire(cron, "UTC", hour - timedelta(microseconds=1)) == hour - timedelta(hours=1)


def test_a_naive_time_and_an_unknown_policy_are_errors_of_the_caller() -> None:
    cron, now = parse("* * * * *"), at("2026-01-01T00:00:00Z")
    naive = now.replace(tzinfo=None)
    for call in (
        lambda: next_fire(cron, "UTC", naive),
        lambda: fires_between(cron, "UTC", now, naive, limit=1),
        lambda: count_between(cron, "UTC", now, naive),
        lambda: last_fire(cron, "UTC", naive),
        lambda: badges(cron, "UTC", naive),
        lambda: next_fire(cron, "UTC", now, gap="jump"),  # type: ignore[arg-type]
        lambda: upcoming(cron, "UTC", now, 1, repeat="twice"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=r"naive datetime|unknown policy"):
            call()


@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_ends_of_the_calendar_are_no_error(name: str) -> None:
    cron = parse("0 0 1 1 *")
    assert next_fire(cron, name, datetime.max.replace(tzinfo=UTC)) is None
    assert upcoming(cron, name, at("9998-06-01T00:00:00Z"), 5) == upcoming(cron, name, at("9998-06-01T00:00:00Z"), 1)
    first = next_fire(cron, name, datetime.min.replace(tzinfo=UTC))
    assert first is not None and first.year in (1, 2)
    assert last_fire(cron, name, datetime.min.replace(tzinfo=UTC)) is None
    last = last_fire(cron, name, datetime.max.replace(tzinfo=UTC))
    assert last is not None and last.year in (9998, 9999)


def test_ten_days_of_minutes_are_caught_up_in_bounded_work() -> None:
    cron, until = parse("* * * * *"), at("2026-04-01T00:00:30Z")
    after = until - timedelta(days=10)
    assert count_between(cron, BERLIN, after, until) == 14_400
    assert last_fire(cron, BERLIN, until, since=after) == at("2026-04-01T00:00:00Z")
    fires = fires_between(cron, BERLIN, after, until, limit=100)
    assert (len(fires), fires[0]) == (100, at("2026-03-22T00:01:00Z"))
    assert seconds_taken(lambda: count_between(cron, BERLIN, after, until)) < 0.1
    assert seconds_taken(lambda: fires_between(cron, BERLIN, after, until, limit=20_000)) < 0.2
    assert seconds_taken(lambda: last_fire(cron, BERLIN, until)) < 0.02


# Random expressions


def ranges(low: int, high: int) -> st.SearchStrategy[str]:
    def text(bounds: tuple[int, int], step: int) -> str:
        first, last = min(bounds), max(bounds)
        return f"{first}-{last}" + (f"/{step}" if step > 1 else "") if first < last else f"{first}"

    number = st.integers(low, high)
    return st.builds(text, st.tuples(number, number), st.integers(1, 12))


def fields(low: int, high: int, *more: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    item = st.one_of(st.integers(low, high).map(str), ranges(low, high), *more)
    step = st.integers(2, 20).map("*/{}".format)
    return st.one_of(st.just("*"), step, st.lists(item, min_size=1, max_size=4).map(",".join))


WEEKDAY_OF_MONTH = st.builds("{}{}".format, st.integers(0, 7), st.sampled_from(["L", "#1", "#2", "#3", "#4", "#5"]))
FIVE_FIELDS = st.tuples(
    fields(0, 59), fields(0, 23), fields(1, 31, st.just("L")), fields(1, 12), fields(0, 7, WEEKDAY_OF_MONTH)
).map(" ".join)
SIX_FIELDS = st.builds("{} {}".format, fields(0, 59), FIVE_FIELDS)
INSTANTS = st.datetimes(at("1995-01-01"), at("2060-01-01"), timezones=st.just(UTC))
# Round the clock changes of the zones below, where an hour more or less shows.
NEAR_CHANGES = st.builds(
    lambda start, hours: at(start) + timedelta(hours=hours),
    st.sampled_from(["2026-03-29T00:00:00Z", "2026-10-25T00:00:00Z", "2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z"]),
    st.integers(-50, 50),
)


def by_cronsim(expression: str, after: datetime, count: int) -> list[datetime]:
    """The next instants in UTC; what falls on one instant is one fire."""
    found: dict[datetime, None] = {}
    for fire in islice(CronSim(expression, after), count * 60):
        found.setdefault(fire.astimezone(UTC))
        if len(found) == count:
            break
    return list(found)


def parse_if_it_can_fire(expression: str) -> module.Cron | None:
    try:
        return parse(expression)
    except CronError as error:
        if "can never fire" not in error.message:
            raise
        return None


@settings(max_examples=400, deadline=None)
@given(expression=FIVE_FIELDS | SIX_FIELDS, after=INSTANTS)
def test_random_expressions_agree_with_cronsim_in_utc(expression: str, after: datetime) -> None:
    cron = parse_if_it_can_fire(expression)
    if cron is None:
        with pytest.raises((CronSimError, StopIteration)):
            next(CronSim(expression, after))
    else:
        assert upcoming(cron, "UTC", after, 5) == by_cronsim(expression, after, 5)


@settings(max_examples=400, deadline=None)
@given(expression=FIVE_FIELDS, after=NEAR_CHANGES, name=st.sampled_from([BERLIN, "America/New_York", "Europe/Riga"]))
def test_random_expressions_agree_with_cronsim_over_clock_changes(expression: str, after: datetime, name: str) -> None:
    cron = parse_if_it_can_fire(expression)
    if cron is not None:
        # Started well before the change: CronSim reads a start inside a repeated hour as its first pass.
        start = after.replace(hour=12) - timedelta(days=2)
        assert upcoming(cron, name, start, 8) == by_cronsim(expression, start.astimezone(zone(name)), 8)


ODD_CHANGES = {
    "Africa/Casablanca": "2026-02-15T02:00:00Z",
    "America/Sao_Paulo": "2018-11-04T03:00:00Z",
    "America/St_Johns": "2010-11-07T02:31:00Z",
    "Antarctica/Troll": "2026-10-25T01:00:00Z",
    "Asia/Kathmandu": "1985-12-31T18:30:00Z",
    "Australia/Lord_Howe": "2026-04-04T15:00:00Z",
    "Pacific/Apia": "2011-12-30T10:00:00Z",
    "Pacific/Kwajalein": "1969-09-30T13:00:00Z",
}


@pytest.mark.parametrize("name", ODD_CHANGES)
@settings(max_examples=40, deadline=None)
@given(expression=FIVE_FIELDS, minutes=st.integers(0, 36 * 60))
def test_every_minute_whose_wall_time_matches_fires(name: str, expression: str, minutes: int) -> None:
    """Without help over the gap and with both passes the fires are what a minute by minute look at the clock gives."""
    cron = parse_if_it_can_fire(expression)
    if cron is None:
        return
    sim, local_zone = CronSim(expression, at("2000-01-01")), zone(name)
    after = at(ODD_CHANGES[name]) - timedelta(minutes=minutes)
    expected = []
    for step in range(1, 48 * 60 + 1):
        instant = after + timedelta(minutes=step)
        wall = instant.astimezone(local_zone)
        if wall.minute in sim.minutes and wall.hour in sim.hours and wall.month in sim.months:
            expected += [instant] if sim.match_day(wall.date()) else []
    until = after + timedelta(hours=48)
    assert fires_between(cron, name, after, until, limit=9999, gap="skip", repeat="both") == expected
    assert count_between(cron, name, after, until, gap="skip", repeat="both") == len(expected)
    helped = fires_between(cron, name, after, until, limit=9999)
    marked = [fire for fire in helped if "dst_gap" in badges(cron, name, fire)]
    assert set(helped) - set(marked) <= set(expected)
    if not cron.fixed_time:
        assert helped == expected


ANY_ZONE = st.sampled_from(
    [BERLIN, "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Antarctica/Troll", "UTC"]
)


@settings(max_examples=200, deadline=None)
@given(
    expression=FIVE_FIELDS | SIX_FIELDS,
    after=INSTANTS | NEAR_CHANGES,
    name=ANY_ZONE,
    gap=st.sampled_from(["run_after", "skip"]),
    repeat=st.sampled_from(["first", "both"]),
)
def test_every_way_to_ask_gives_the_same_fires(
    expression: str, after: datetime, name: str, gap: module.Gap, repeat: module.Repeat
) -> None:
    cron = parse_if_it_can_fire(expression)
    if cron is None:
        return
    fires = upcoming(cron, name, after, 12, gap=gap, repeat=repeat)
    assert all(earlier < later for earlier, later in zip([after, *fires], fires, strict=False))
    single, one_by_one = after, []
    for _ in fires:
        fire = next_fire(cron, name, single, gap=gap, repeat=repeat)
        assert fire is not None
        one_by_one.append(fire)
        single = fire
    assert one_by_one == fires
    until = fires[-1]
    assert fires_between(cron, name, after, until, limit=99, gap=gap, repeat=repeat) == fires
    assert fires_between(cron, name, after, until, limit=3, gap=gap, repeat=repeat) == fires[:3]
    assert count_between(cron, name, after, until, gap=gap, repeat=repeat) == len(fires)
    just_before = until - timedelta(microseconds=1)
    assert count_between(cron, name, after, just_before, gap=gap, repeat=repeat) == len(fires) - 1
    assert last_fire(cron, name, until, since=after, gap=gap, repeat=repeat) == until
    assert last_fire(cron, name, just_before, gap=gap, repeat=repeat) == fires[-2]


# Words


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 2 * * *", "minute 0, hour 2, every day"),
        ("* * * * *", "every minute, every hour, every day"),
        ("@hourly", "minute 0, every hour, every day"),
        ("*/20 9-17 * * mon-fri", "minutes 0, 20, 40, hours 9-17, on Monday, Tuesday, Wednesday, Thursday, Friday"),
        ("30 0 0 1 1 *", "second 30, minute 0, hour 0, on day 1 of the month, in January"),
        ("0 0 L * *", "minute 0, hour 0, on the last day of the month"),
        ("0 0 1,L * *", "minute 0, hour 0, on day 1 and the last day of the month"),
        ("0 0 * * 5L", "minute 0, hour 0, on the last Friday of the month"),
        ("0 0 * * 5#2", "minute 0, hour 0, on the second Friday of the month"),
        ("0 0 13 * 5", "minute 0, hour 0, on day 13 of the month or on Friday"),
        ("0 0 */13 * 5", "minute 0, hour 0, on days 1, 14, 27 of the month and only on Friday"),
        ("0 0 1-31 * 5", "minute 0, hour 0, every day"),
        ("0 0 * 6,12 0-7", "minute 0, hour 0, every day, in June, December"),
    ],
)
def test_an_expression_is_described_in_words(expression: str, words: str) -> None:
    assert describe(parse(expression), BERLIN) == f"{words} (Europe/Berlin)"


def test_the_description_shows_h_expanded() -> None:
    cron = parse("H H(0-5) * * *", hash_key="backup")
    assert describe(cron, "UTC") == f"minute {cron.minutes[0]}, hour {cron.hours[0]}, every day (UTC)"
