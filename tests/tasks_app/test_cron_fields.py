"""Parsing of cron expressions: what is accepted, what is refused with which sentence, and the words for it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app import cron_fields
from tasks_app.cron import CronError, describe, next_fire, parse
from tests.tasks_app.clock import at, seconds_taken

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "cron_vectors.json").read_text())
BERLIN = "Europe/Berlin"


def refused(expression: str) -> str:
    with pytest.raises(CronError) as caught:
        parse(expression)
    return caught.value.message


# Recorded facts


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


@pytest.mark.parametrize("expression", ["0 2 * * 1", "@hourly", "*/5 * * * *"])
def test_tasks_of_one_expression_without_h_share_one_reading_of_it(expression: str) -> None:
    assert parse(expression, hash_key="a") is parse(expression, hash_key="b")


@pytest.mark.parametrize("expression", ["H 2 * * *", "h 2 * * *", "0 2 H * *"])
def test_a_reading_with_h_is_that_of_its_task(expression: str) -> None:
    assert len({parse(expression, hash_key=f"{n}") for n in range(20)}) > 1


@given(st.text(alphabet="0123456789*,-/#LHWjanfebsumo?()@ \t\u00b2", max_size=60) | st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    cron = None
    with suppress(CronError):
        cron = parse(text)
    if cron is not None:
        assert parse(cron.expression) == cron
        assert describe(cron, "UTC").endswith("(UTC)")


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
