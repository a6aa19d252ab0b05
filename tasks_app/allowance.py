"""What a calendar makes of the instants of a schedule: allowed, skipped, or moved to the next allowed time. Pure.

Firing, previews and the next fire that is shown all ask here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks_app.calendars import Calendar
from tasks_app.timing import Timing

SKIP, NEXT_ALLOWED = "skip", "next_allowed"
# So many closed times in a row with instants in them, and no fire between: farther it is not looked ahead.
MOST_CLOSED = 400
# A stretch of more pieces than this is looked at only in its newest part.
MOST_PIECES = 500
LONGEST_JITTER = timedelta(days=31)
_TICK = timedelta(microseconds=1)
_FIRST_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Allowance:
    """A calendar (None: all times are allowed) and what becomes of an instant outside it: `skip` or `next_allowed`."""

    calendar: Calendar | None = None
    action: str = SKIP


EVER = Allowance()


@dataclass(frozen=True, slots=True)
class Fire:
    """The instant `nominal_at` fires; its run is due at `due_at`, later only where a calendar moved it."""

    nominal_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Piece:
    """The instants of a rule in (after, until], all of them allowed or all blocked.

    Of blocked ones the last runs at `moved_to` where that is set; `waits` says that they make way for an opening.
    """

    after: datetime
    until: datetime
    blocked: bool = False
    waits: bool = False
    moved_to: datetime | None = None


def fires(timing: Timing, allowance: Allowance, after: datetime) -> Generator[Fire, None, datetime | None]:
    """The fires of the instants after `after`, ascending; they end where none is in sight.

    Returns the instant before which there is none, as far as it was looked ahead; None where the rule or its calendar
    has come to an end, so that there never is another one.
    """
    calendar, closed = allowance.calendar, 0
    while (nominal := timing.next_after(after)) is not None:
        if closed == MOST_CLOSED:
            return nominal
        opening, looked_until = (nominal, None) if calendar is None else calendar.look_ahead(nominal)
        if opening is None:
            return looked_until
        if opening == nominal:
            yield Fire(nominal, nominal)
            after, closed = nominal, 0
            continue
        after = opening - _TICK
        if timing.kind == "fixed_delay" or _moves(timing, allowance, after, opening):
            last = timing.last_between(nominal - _TICK, after)
            assert last is not None
            yield Fire(last, opening)
            closed = 0
        closed += 1
    return None


@dataclass(frozen=True, slots=True)
class Outlook:
    """The next fires; where they are fewer than asked for although the rule goes on, no other comes before
    `looked_until`: farther it was not looked ahead."""

    fires: list[Fire]
    looked_until: datetime | None = None

    @property
    def due_at(self) -> datetime | None:
        """When the first of the fires is due; None where there is none."""
        return self.fires[0].due_at if self.fires else None


def outlook(timing: Timing, allowance: Allowance, after: datetime, count: int = 1) -> Outlook:
    """The first `count` fires of instants after `after`, as far as they are in sight."""
    coming = fires(timing, allowance, after)
    found: list[Fire] = []
    while len(found) < count:
        try:
            found.append(next(coming))
        except StopIteration as end:
            return Outlook(found, end.value)
    return Outlook(found)


def pieces(timing: Timing, allowance: Allowance, after: datetime, until: datetime) -> tuple[datetime, list[Piece]]:
    """The instants in (after, until] in pieces, ascending, and the instant from which on they are told apart.

    That is `after`, but for a stretch of very many pieces: then its older part is left out, to bound the work.
    """
    calendar = allowance.calendar
    if calendar is None:
        return after, [Piece(after, until)]
    window = _FIRST_WINDOW
    while True:
        start = max(after, until - window)
        found = list(_walk(timing, allowance, calendar, start, until))
        if start == after or len(found) > MOST_PIECES:
            return start, found
        window *= 4


def latest_start(timing: Timing, allowance: Allowance, fire: Fire) -> datetime | None:
    """The instant before which the run of `fire` has to be due wherever jitter puts it: that of the next instant or
    of the next closed time, whichever comes first; None when neither comes within the longest jitter."""
    following = timing.next_after(fire.nominal_at)
    until = fire.due_at + LONGEST_JITTER if following is None else min(following, fire.due_at + LONGEST_JITTER)
    blocked = allowance.calendar.next_blocked(fire.due_at, until) if allowance.calendar is not None else None
    ends = [end for end in (following, blocked) if end is not None]
    return min(ends) if ends else None


def _walk(
    timing: Timing, allowance: Allowance, calendar: Calendar, after: datetime, until: datetime
) -> Iterator[Piece]:
    while (nominal := timing.next_after(after)) is not None and nominal <= until:
        opening = calendar.next_allowed(nominal)
        if opening == nominal:
            blocked = calendar.next_blocked(nominal, until)
            stop = until if blocked is None else blocked - _TICK
            yield Piece(after, stop)
        else:
            stop = until if opening is None or opening > until else opening - _TICK
            waits = opening is not None and allowance.action == NEXT_ALLOWED and _in_time(timing, opening)
            moved = opening is not None and _moves(timing, allowance, stop, opening)
            yield Piece(after, stop, True, waits, opening if moved else None)
        after = stop


def _moves(timing: Timing, allowance: Allowance, until: datetime, opening: datetime) -> bool:
    """Whether the last blocked instant up to `until` runs at the opening: not if another one comes before or then."""
    if allowance.action != NEXT_ALLOWED or not _in_time(timing, opening):
        return False
    following = timing.next_after(until)
    return following is None or following > opening


def _in_time(timing: Timing, opening: datetime) -> bool:
    return timing.end_at is None or opening <= timing.end_at
