"""Random cron expressions, judged by a second implementation and by a minute by minute look at the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from croniter import croniter
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app import cron as module
from tasks_app.cron import CronError, badges, count_between, fires_between, last_fire, next_fire, parse, upcoming, zone
from tests.tasks_app.clock import at

BERLIN = "Europe/Berlin"


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


PLAIN_FIELDS = st.tuples(fields(0, 59), fields(0, 23), fields(1, 31), fields(1, 12), fields(0, 7)).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(expression=PLAIN_FIELDS, after=INSTANTS)
def test_random_expressions_of_crontab_agree_with_croniter_in_utc(expression: str, after: datetime) -> None:
    # Its extensions and its help over clock changes are not ours; what crontab(5) defines is.
    cron = parse_if_it_can_fire(expression)
    if cron is not None:
        other = croniter(expression, after, implement_cron_bug=True)
        assert upcoming(cron, "UTC", after, 5) == [other.get_next(datetime) for _ in range(5)]


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
