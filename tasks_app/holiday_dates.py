"""Public holidays as dates, to be generated when a calendar is saved and stored in it: never asked for while firing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

MOST_YEARS = 30
FIRST_YEAR, LAST_YEAR = 1970, 2100


class UnknownHolidays(ValueError):
    """A country, subdivision or range of years that there are no holidays for; `message` is a sentence for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class HolidayDates:
    """Ascending: days off work with their names, and days of the weekend worked in their place (China and others)."""

    holidays: tuple[tuple[date, str], ...]
    working_days: tuple[date, ...]

    def blackout_rule(self, name: str) -> dict[str, object]:
        """The holidays as a rule for `blackout` of a calendar document."""
        return {"kind": "dates", "name": name, "dates": [day.isoformat() for day, _ in self.holidays]}

    def allowed_rule(self, name: str, start: str = "00:00", end: str = "24:00") -> dict[str, object] | None:
        """The make-up working days as a rule for `allowed` of a calendar document; None when there are none."""
        if not self.working_days:
            return None
        dates = [day.isoformat() for day in self.working_days]
        return {"kind": "dates", "name": name, "dates": dates, "from": start, "to": end}


def holiday_dates(country: str, subdivision: str | None, years: Iterable[int]) -> HolidayDates:
    """The public holidays of a country (ISO 3166-1 alpha-2) and its subdivision (ISO 3166-2 without the country).

    Announced year by year in some countries: generate again once a year. Raises UnknownHolidays.
    """
    # Loads 250 countries: only where a calendar is edited.
    from holidays import country_holidays

    wanted = sorted(set(years))
    if not wanted or len(wanted) > MOST_YEARS or wanted[0] < FIRST_YEAR or wanted[-1] > LAST_YEAR:
        raise UnknownHolidays(f"Give 1 to {MOST_YEARS} years from {FIRST_YEAR} to {LAST_YEAR}.")
    try:
        found = country_holidays(country, subdiv=subdivision or None, years=wanted, expand=False)
    except NotImplementedError:
        place = f"{country}-{subdivision}" if subdivision else country
        raise UnknownHolidays(f"There are no holidays known for {place[:20]!a}.") from None
    asked = set(wanted)
    days = tuple((day, name) for day, name in sorted(found.items()) if day.year in asked)
    worked = tuple(sorted(day for day in found.weekend_workdays if day.year in asked))
    return HolidayDates(days, worked)
