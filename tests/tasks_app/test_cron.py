"""When cron expressions fire: recorded facts, zones, clock changes and the time line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks_app.cron import CronError, badges, count_between, fires_between, last_fire, next_fire, parse, upcoming, zone
from tests.tasks_app.clock import at, seconds_taken

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "cron_vectors.json").read_text())
BERLIN = "Europe/Berlin"


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


@pytest.mark.parametrize("vector", VECTORS["missed_run"], ids=lambda vector: vector["note"])
def test_missed_fires_are_found_and_counted(vector: dict[str, Any]) -> None:
    cron, after, until = parse(vector["expr"]), at(vector["last_known"]), at(vector["now"])
    fires = fires_between(cron, vector["tz"], after, until, limit=1000)
    if "due" in vector:
        assert fires == [at(text) for text in vector["due"]]
    assert len(fires) == vector.get("due_count", len(fires))
    assert count_between(cron, vector["tz"], after, until) == len(fires)
    assert last_fire(cron, vector["tz"], until, since=after) == (fires[-1] if fires else None)


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
