"""What becomes of the instants of a schedule that are due: runs, or entries of the fire ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tasks_app.allowance import EVER, Allowance, Fire, Piece, outlook, pieces
from tasks_app.timing import Timing

# A run that is due no longer ago than this is not a matter of catching up.
ON_TIME = timedelta(seconds=60)
_TICK = timedelta(microseconds=1)
# Where a run would have been due: before the catch-up window, before its start deadline, in the window, just now.
_WINDOW, _EXPIRED, _OLD, _FRESH = range(4)


@dataclass(frozen=True, slots=True)
class Stretch:
    """`count` consecutive instants from `first_at` to `last_at` that get no run, with the answer and its reason."""

    first_at: datetime
    last_at: datetime
    count: int
    answer: str
    reason: str


@dataclass(slots=True)
class Answer:
    """The runs to plan, the stretches to write into the ledger, and the next instant after `now` (None: no more).

    With a calendar `next_run_at` is when the schedule next really runs, and where that is not in sight `looked_until`
    says before when it does not; without one both are None.
    """

    runs: list[Fire] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    next_at: datetime | None = None
    next_run_at: datetime | None = None
    looked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How to catch up: `none`, `last` or `all`, within `window`, at most `most` runs.

    With a `deadline`, what was due longer ago than that gets no run any more; `slack` is added to it for jitter.
    """

    catch_up: str
    window: timedelta
    most: int
    deadline: timedelta | None = None
    slack: timedelta = timedelta(0)


def answer(timing: Timing, policy: Policy, *, after: datetime, now: datetime, allowance: Allowance = EVER) -> Answer:
    """Answer every instant in (after, now]. The work is bounded by `policy.most`, not by the length of the outage."""
    start, found = pieces(timing, allowance, after, now)
    sections = [section for piece in found for section in _sections(timing, piece, policy, now)]
    picked = _picked(timing, sections, policy)
    result = Answer()
    passed_over = _passed_over(policy)
    before_window = min(max(after, now - policy.window), start)
    _add(result, _stretch(timing, after, before_window, *_UNFIT[_WINDOW]))
    _add(result, _stretch(timing, before_window, start, *passed_over))
    for section, instants in zip(sections, picked, strict=True):
        first, last = (instants[0] - _TICK, instants[-1]) if instants else (section.until, section.until)
        if section.answer is None:
            # Of fresh instants more than `most` are left over only of a schedule by the second.
            before, behind = passed_over, ("coalesced", "max_catch_up")
        else:
            before = behind = section.answer
        _add(result, _stretch(timing, section.after, first, *before))
        result.runs += [Fire(at, section.moved_to or at) for at in instants]
        _add(result, _stretch(timing, last, section.until, *behind))
    return _with_next(result, timing, allowance, now)


def skip_all(
    timing: Timing, *, after: datetime, now: datetime, answer: str, reason: str, allowance: Allowance = EVER
) -> Answer:
    """Answer every instant in (after, now] with the ledger alone."""
    stretch = _stretch(timing, after, now, answer, reason)
    return _with_next(Answer(stretches=[stretch] if stretch else []), timing, allowance, now)


def joined(first: Answer, second: Answer) -> Answer:
    """Both answers as one; `second` is that of the later instants."""
    runs, stretches = [*first.runs, *second.runs], [*first.stretches, *second.stretches]
    return replace(second, runs=runs, stretches=stretches)


@dataclass(frozen=True, slots=True)
class _Section:
    """Instants in (after, until] that have one and the same prospect; `answer` where that is to get no run."""

    after: datetime
    until: datetime
    zone: int
    moved_to: datetime | None = None
    answer: tuple[str, str] | None = None


_UNFIT = {_WINDOW: ("missed", "catch_up_window"), _EXPIRED: ("missed", "start_deadline")}


def _sections(timing: Timing, piece: Piece, policy: Policy, now: datetime) -> Iterator[_Section]:
    limits = _limits(policy, now)
    if not piece.blocked:
        start = piece.after
        for zone, limit in enumerate([*limits, piece.until]):
            if (end := min(limit, piece.until)) > start:
                yield _Section(start, end, zone, None, _UNFIT.get(zone))
                start = end
        return
    outside = ("coalesced", "calendar") if piece.waits else ("skipped", "calendar")
    end = piece.until
    if piece.moved_to is not None:
        last = timing.last_between(piece.after, piece.until)
        assert last is not None
        end = last - _TICK
    if end > piece.after:
        yield _Section(piece.after, end, _OLD, None, outside)
    if piece.moved_to is not None:
        due = piece.moved_to
        zone = next((zone for zone, limit in enumerate(limits) if due <= limit), _FRESH)
        yield _Section(end, piece.until, zone, due, _UNFIT.get(zone))


def _limits(policy: Policy, now: datetime) -> tuple[datetime, datetime, datetime]:
    """The ends of the zones before the last, ascending or empty."""
    fresh = now - ON_TIME
    window = min(now - policy.window, fresh)
    expired = window if policy.deadline is None else now - policy.deadline - policy.slack
    return window, expired, fresh


def _picked(timing: Timing, sections: list[_Section], policy: Policy) -> list[list[datetime]]:
    """The instants of each section that become runs: the earliest of the fresh ones, then the newest of the old."""
    picked: list[list[datetime]] = [[] for _ in sections]
    open_ones = [(place, section) for place, section in enumerate(sections) if section.answer is None]
    left = max(policy.most, 1)
    for place, section in open_ones:
        if section.zone == _FRESH and left > 0:
            picked[place] = timing.first_between(section.after, section.until, left)
            left -= len(picked[place])
    fresh = max(policy.most, 1) - left
    wanted = {"all": policy.most - fresh, "last": 0 if fresh else 1}.get(policy.catch_up, 0)
    for place, section in reversed(open_ones):
        if wanted <= 0:
            break
        if section.zone == _OLD:
            picked[place] = timing.last_few_between(section.after, section.until, wanted)
            wanted -= len(picked[place])
    return picked


def _add(result: Answer, stretch: Stretch | None) -> None:
    """Append the stretch, to the one before where that says the same and no run lies between."""
    if stretch is None:
        return
    last = result.stretches[-1] if result.stretches else None
    apart = last is not None and result.runs and result.runs[-1].nominal_at > last.last_at
    if last is None or apart or (last.answer, last.reason) != (stretch.answer, stretch.reason):
        result.stretches.append(stretch)
    else:
        result.stretches[-1] = replace(last, last_at=stretch.last_at, count=last.count + stretch.count)


def _with_next(result: Answer, timing: Timing, allowance: Allowance, now: datetime) -> Answer:
    result.next_at = timing.next_after(now)
    if timing.kind == "fixed_delay" and not result.runs:
        result.next_at = result.next_run_at = _rearmed(timing, allowance, now)
    elif allowance.calendar is not None and result.next_at is not None:
        found = outlook(timing, allowance, now)
        result.next_run_at, result.looked_until = found.due_at, found.looked_until
    return result


def _rearmed(timing: Timing, allowance: Allowance, now: datetime) -> datetime | None:
    """When a schedule of a fixed delay fires next whose instant got no run: whole delays later, at an allowed time."""
    if timing.at is None or timing.interval is None or timing.at > now:
        return timing.at
    found = timing.at + timing.interval * ((now - timing.at) // timing.interval + 1)
    if allowance.calendar is not None:
        found = allowance.calendar.next_allowed(found) or found
    return None if timing.end_at is not None and found > timing.end_at else found


def _passed_over(policy: Policy) -> tuple[str, str]:
    if policy.catch_up == "none":
        return "missed", "catch_up_none"
    return "coalesced", "catch_up_last" if policy.catch_up == "last" else "max_catch_up"


def _stretch(timing: Timing, after: datetime, until: datetime, answer: str, reason: str) -> Stretch | None:
    first = timing.next_after(after) if after < until else None
    if first is None or first > until:
        return None
    last = timing.last_between(after, until)
    assert last is not None
    return Stretch(first, last, timing.count_between(after, until), answer, reason)
