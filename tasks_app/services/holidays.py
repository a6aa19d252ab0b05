"""The public holidays that people name in a calendar, as rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext as _

from tasks_app.errors import InvalidInput
from tasks_app.holiday_dates import HolidayDates, UnknownHolidays, holiday_dates

MOST_HOLIDAYS = 20
YEARS_AHEAD = 10
# Make-up working days have the hours of the weekly rules, where these are no more than this.
MOST_HOURS = 5


def holiday_rules(document: dict[str, Any], holidays: Any, year: int) -> dict[str, Any]:
    """The public holidays of some countries as a calendar document of their own: days off, and days worked in their
    place at the hours of `document`. For the year before `year` up to ten years after it. Raises InvalidInput."""
    if not isinstance(holidays, list) or len(holidays) > MOST_HOLIDAYS:
        raise InvalidInput(holidays=_("Give a list of at most %(most)d countries.") % {"most": MOST_HOLIDAYS})
    blackout: list[dict[str, object]] = []
    allowed: list[dict[str, object]] = []
    for number, entry in enumerate(holidays):
        country, subdivision, name = _holiday_entry(entry, number)
        try:
            dates = holiday_dates(country, subdivision, range(year - 1, year + YEARS_AHEAD + 1))
        except UnknownHolidays as error:
            raise InvalidInput(holidays=f"[{number}]: {error.message}") from error
        if dates.holidays:
            blackout.append(dates.blackout_rule(name))
        allowed += _worked_days(document, dates, name)
    if not blackout:
        return {}
    zone = {"time_zone": document["time_zone"]} if "time_zone" in document else {}
    return {**zone, "blackout": blackout, "allowed": allowed}


def _holiday_entry(entry: Any, number: int) -> tuple[str, str | None, str]:
    values = entry if isinstance(entry, dict) and entry.keys() <= {"country", "subdivision", "name"} else {}
    country, subdivision = values.get("country"), values.get("subdivision") or None
    place = f"{country}-{subdivision}" if subdivision else country
    name = values.get("name") or place
    texts = (country, subdivision or "", name)
    if not country or not all(isinstance(text, str) and len(text) <= 100 and text.isprintable() for text in texts):
        raise InvalidInput(
            holidays=_("[%(number)d]: Give a country and, as you like, a subdivision and a name.") % {"number": number}
        )
    return str(country), subdivision, str(name)


def _worked_days(document: dict[str, Any], dates: HolidayDates, name: str) -> Iterable[dict[str, object]]:
    """Days of the weekend that are worked in place of holidays, at the hours of the weekly rules; without any allowed
    rule weekends are open anyway, and a rule would close all the rest."""
    weekly = [rule for rule in document.get("allowed", ()) if rule["kind"] == "weekly"]
    if not weekly:
        return ()
    hours = sorted({(rule.get("from", "00:00"), rule.get("to", "24:00")) for rule in weekly})
    if len(hours) > MOST_HOURS:
        hours = [("00:00", "24:00")]
    rules = (dates.allowed_rule(name, start, end) for start, end in hours)
    return [rule for rule in rules if rule is not None]
