"""Cron expressions: validation, expansion of the fields and the rule that picks the days."""

from __future__ import annotations

import hashlib
import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from itertools import groupby

MAX_LENGTH = 256
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTH_NAMES = tuple(
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
# Stands for the last day, or the last week, of a month.
LAST = -1
WEEK_NAMES = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
# The Gregorian calendar has 14 kinds of year (leap or not, by the weekday of 1 January); these 28 years hold them all.
_ALL_KINDS_OF_YEAR = range(2000, 2028)
_WEEKDAY_OF_MONTH = re.compile(r"([^#]+)(L|#[1-5])")
_TICKS = tuple(timedelta(seconds=second) for second in range(3600))


class CronError(ValueError):
    """An expression or time zone that is refused; `message` is one sentence for the person who typed it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression; equal and hashed by its normalised text.

    `expression` has nicknames, names, `H` and `N/step` replaced by numbers and parses to an equal value.
    `fixed_time` is true when neither minute nor hour (nor, of six fields, second) begins with `*`: such a job is
    helped over clock changes, any other follows the wall clock. `ticks` are the fires inside a matching hour.
    `days` may hold LAST; weekdays count from 0 = Sunday; `nth_weekdays` are (weekday, week of the month 1-5 or LAST).
    """

    expression: str
    has_seconds: bool = field(compare=False)
    fixed_time: bool = field(compare=False)
    seconds: tuple[int, ...] = field(compare=False, repr=False)
    minutes: tuple[int, ...] = field(compare=False, repr=False)
    hours: tuple[int, ...] = field(compare=False, repr=False)
    days: frozenset[int] = field(compare=False, repr=False)
    months: tuple[int, ...] = field(compare=False, repr=False)
    weekdays: frozenset[int] = field(compare=False, repr=False)
    nth_weekdays: frozenset[tuple[int, int]] = field(compare=False, repr=False)
    both_day_fields: bool = field(compare=False, repr=False)
    ticks: tuple[timedelta, ...] = field(compare=False, repr=False)

    def days_of(self, year: int, month: int) -> list[int]:
        """The days of that month on which it fires, ascending; the month field itself is not looked at."""
        first_weekday, length = monthrange(year, month)
        return [day for day in range(1, length + 1) if self._takes(day, (first_weekday + day) % 7, length)]

    def _takes(self, day: int, weekday: int, length: int) -> bool:
        by_day = day in self.days or (LAST in self.days and day == length)
        by_weekday = (
            weekday in self.weekdays
            or ((weekday, LAST) in self.nth_weekdays and day + 7 > length)
            or (weekday, (day + 6) // 7) in self.nth_weekdays
        )
        return by_day and by_weekday if self.both_day_fields else by_day or by_weekday


@dataclass(frozen=True, slots=True)
class _Spec:
    name: str
    low: int
    high: int
    # The highest value that H may pick: every month has day 28, and 7 is only another name of Sunday.
    hash_high: int
    names: tuple[str, ...] = ()
    more: str = ""

    def error(self, found: str, problem: str, allowed: str = "") -> CronError:
        allowed = allowed or f"numbers {self.low}-{self.high}{self.more}"
        return CronError(f"The {self.name} field has {_quote(found)}: {problem}; allowed are {allowed}.")


_DAY = _Spec("day-of-month", 1, 31, 28, more=" or L (the last day)")
_WEEKDAY = _Spec(
    "day-of-week", 0, 7, 6, tuple(name[:3].upper() for name in DAY_NAMES), ", names SUN-SAT, 5L or 5#1 to 5#5"
)
_SPECS = (
    _Spec("second", 0, 59, 59),
    _Spec("minute", 0, 59, 59),
    _Spec("hour", 0, 23, 23),
    _DAY,
    _Spec("month", 1, 12, 12, tuple(name[:3].upper() for name in MONTH_NAMES), " or names JAN-DEC"),
    _WEEKDAY,
)


@dataclass(slots=True)
class _Field:
    """What one field of the expression expands to."""

    starred: bool
    texts: list[str] = field(default_factory=list)
    values: set[int] = field(default_factory=set)
    nth_weekdays: set[tuple[int, int]] = field(default_factory=set)

    @property
    def text(self) -> str:
        return ",".join(dict.fromkeys(self.texts))


def parse(expression: str, *, hash_key: str = "") -> Cron:
    """Read a crontab(5) expression of five fields, or of six with a leading second, or a nickname.

    `hash_key` is the text whose stable hash stands in for `H` (the name of the task); where there is no `H`, all share
    one reading. Raises CronError when a field is malformed or out of bounds, or when no date can ever match.
    """
    if len(expression) > MAX_LENGTH:
        raise CronError(f"The expression has {len(expression)} characters; allowed are at most {MAX_LENGTH}.")
    hashed = "H" in expression.upper() and not expression.lstrip().startswith("@")
    return _parse(expression, hash_key if hashed else "")


@lru_cache(maxsize=2048)
def _parse(expression: str, hash_key: str) -> Cron:
    tokens = _tokens(expression)
    has_seconds = len(tokens) == 6
    fields = [_field(spec, token, hash_key) for spec, token in zip(_SPECS[-len(tokens) :], tokens, strict=True)]
    text = " ".join(each.text for each in fields)
    if not has_seconds:
        fields.insert(0, _Field(starred=False, values={0}))
    second, minute, hour, day, month, weekday = fields
    cron = Cron(
        expression=text,
        has_seconds=has_seconds,
        fixed_time=not (second.starred or minute.starred or hour.starred),
        seconds=tuple(sorted(second.values)),
        minutes=tuple(sorted(minute.values)),
        hours=tuple(sorted(hour.values)),
        days=frozenset(day.values),
        months=tuple(sorted(month.values)),
        weekdays=frozenset(value % 7 for value in weekday.values),
        nth_weekdays=frozenset(weekday.nth_weekdays),
        both_day_fields=day.starred or weekday.starred,
        ticks=tuple(_TICKS[m * 60 + s] for m in sorted(minute.values) for s in sorted(second.values)),
    )
    if not any(cron.days_of(year, month) for year in _ALL_KINDS_OF_YEAR for month in cron.months):
        raise CronError(
            f"The expression {_quote(text)} can never fire: no date has day-of-month {day.text}, "
            f"month {month.text} and day-of-week {weekday.text}."
        )
    return cron


def _quote(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def _tokens(expression: str) -> list[str]:
    bad = next((char for char in expression if not (" " <= char <= "~" or char == "\t")), None)
    if bad is not None:
        raise CronError(
            f"The expression has the character {bad!a}; allowed are ASCII letters, digits and * , - / # ( )."
        )
    tokens = expression.split()
    if tokens and tokens[0].startswith("@"):
        if len(tokens) > 1 or tokens[0] not in NICKNAMES:
            raise CronError(f"The expression {_quote(expression)} is no nickname; allowed are {', '.join(NICKNAMES)}.")
        tokens = NICKNAMES[tokens[0]].split()
    if len(tokens) not in (5, 6):
        raise CronError(f"The expression has {len(tokens)} fields; allowed are 5 (minute first) or 6 (second first).")
    return tokens


def _field(spec: _Spec, token: str, hash_key: str) -> _Field:
    parsed = _Field(starred=token.startswith("*"))
    for item in token.upper().split(","):
        if not item:
            raise spec.error(token, "an item of the list is empty")
        if not _special_day(spec, item, parsed):
            _plain_item(spec, item, hash_key, parsed)
    return parsed


def _special_day(spec: _Spec, item: str, parsed: _Field) -> bool:
    """Take `L` of day-of-month, `5L` and `5#2` of day-of-week; false for any other item."""
    if spec is _DAY and item == "L":
        parsed.values.add(LAST)
        parsed.texts.append(item)
        return True
    found = _WEEKDAY_OF_MONTH.fullmatch(item) if spec is _WEEKDAY else None
    if found is None:
        return False
    weekday = _value(spec, found[1], item) % 7
    parsed.nth_weekdays.add((weekday, LAST if found[2] == "L" else int(found[2][1:])))
    parsed.texts.append(f"{weekday}{found[2]}")
    return True


def _plain_item(spec: _Spec, item: str, hash_key: str, parsed: _Field) -> None:
    body, slash, step_text = item.partition("/")
    step = _step(spec, step_text, item) if slash else 1
    if body == "*":
        parsed.values.update(range(spec.low, spec.high + 1, step))
        parsed.texts.append("*" if step == 1 else f"*/{step}")
        return
    if body.startswith("H"):
        low, high = _hashed(spec, body, step if slash else 0, item, hash_key)
    elif "-" in body:
        low, high = _range(spec, body, item)
    else:
        low = _value(spec, body, item)
        high = spec.high if slash else low
    parsed.values.update(range(low, high + 1, step))
    if low == high:
        parsed.texts.append(str(low % 7 if spec is _WEEKDAY else low))
    else:
        parsed.texts.append(f"{low}-{high}" if step == 1 else f"{low}-{high}/{step}")


def _step(spec: _Spec, text: str, item: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise spec.error(item, "the step after / is wrong", "whole numbers from 1")
    return int(text)


def _range(spec: _Spec, body: str, item: str) -> tuple[int, int]:
    first, _, last = body.partition("-")
    low, high = _value(spec, first, item), _value(spec, last, item)
    if low > high:
        raise spec.error(item, "the range is in the wrong order", f"ranges upwards within {spec.low}-{spec.high}")
    return low, high


def _value(spec: _Spec, text: str, item: str) -> int:
    if text in spec.names:
        return spec.low + spec.names.index(text)
    if not text.isdigit():
        raise spec.error(item, "a value is missing" if not text else f"{_quote(text)} is not a value")
    if not spec.low <= int(text) <= spec.high:
        raise spec.error(item, f"{_quote(text)} is out of bounds")
    return int(text)


def _hashed(spec: _Spec, body: str, step: int, item: str, hash_key: str) -> tuple[int, int]:
    """The range that stands in for `H` or `H(a-b)`: one value, or with a step a start picked inside the first step."""
    low, high = spec.low, spec.hash_high
    if body != "H":
        if not (body.startswith("H(") and body.endswith(")") and "-" in body):
            raise spec.error(item, "H is written wrong", "H, H(a-b), H/n and H(a-b)/n")
        low, high = _range(spec, body[2:-1], item)
    width = high - low + 1
    digest = hashlib.sha256(f"{spec.name}\0{hash_key}".encode("utf-8", "surrogatepass")).digest()
    picked = low + int.from_bytes(digest[:8], "big") % min(step or width, width)
    return picked, high if step else picked


def values_text(name: str, values: Sequence[int], everything: range) -> str:
    """Ascending values of a field in words: `every minute`, `hour 2`, `minutes 0-10, 30`."""
    if len(values) == len(everything):
        return f"every {name}"
    pieces = []
    # Consecutive numbers differ from their position by the same amount.
    for _, group in groupby(enumerate(values), key=lambda pair: pair[1] - pair[0]):
        run = [value for _, value in group]
        pieces += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(value) for value in run]
    return f"{name}{'s' if len(values) > 1 else ''} {', '.join(pieces)}"


def days_text(cron: Cron) -> str:
    """The day rule in words, with the `and` or `or` between the two day fields that crontab(5) gives them."""
    every_day, every_weekday = cron.days.issuperset(range(1, 32)), len(cron.weekdays) == 7
    if (every_day and every_weekday) or (not cron.both_day_fields and (every_day or every_weekday)):
        return "every day"
    numbers = sorted(cron.days - {LAST})
    days = [values_text("day", numbers, range(31))] if numbers else []
    days += ["the last day"] if LAST in cron.days else []
    by_day = f"on {' and '.join(days)} of the month"
    weekdays = [DAY_NAMES[number] for number in sorted(cron.weekdays)]
    weekdays += [f"the {WEEK_NAMES[week]} {DAY_NAMES[day]} of the month" for day, week in sorted(cron.nth_weekdays)]
    by_weekday = "on " + ", ".join(weekdays)
    if every_weekday:
        return by_day
    if every_day:
        return by_weekday
    return f"{by_day} {'and only' if cron.both_day_fields else 'or'} {by_weekday}"
