"""When a schedule fires: one rule object for firing, previews and catch-up. Pure: imports no model.

A `Timing` is hashable: schedules that share one share the answers, so a thousand `0 * * * *` cost one computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks_app import cron
from tasks_app.cron import Cron, Gap, Repeat


@dataclass(frozen=True, slots=True)
class Timing:
    """The rule of one schedule. Instants are aware; `start_at` and `end_at` are inclusive bounds or None."""

    kind: str
    cron: Cron | None = None
    time_zone: str = "UTC"
    gap: Gap = "run_after"
    repeat: Repeat = "first"
    interval: timedelta | None = None
    anchor: datetime | None = None
    at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None

    def next_after(self, after: datetime) -> datetime | None:
        """The first instant strictly after `after`, or None when there is none."""
        if self.start_at is not None:
            after = max(after, self.start_at - timedelta(microseconds=1))
        found = self._next(after)
        return None if found is None or (self.end_at is not None and found > self.end_at) else found

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """The first `count` instants after `after`; fewer when the rule ends."""
        fires: list[datetime] = []
        while len(fires) < count and (found := self.next_after(after)) is not None:
            fires.append(found)
            after = found
        return fires

    def count_between(self, after: datetime, until: datetime) -> int:
        """How many instants lie in (after, until]."""
        after, until = self._clamp(after, until)
        if until <= after:
            return 0
        if self.kind == "cron":
            assert self.cron is not None
            return cron.count_between(self.cron, self.time_zone, after, until, gap=self.gap, repeat=self.repeat)
        if self.kind == "interval":
            return self._steps(until) - self._steps(after)
        return int(self.at is not None and after < self.at <= until)

    def last_between(self, after: datetime, until: datetime) -> datetime | None:
        """The last instant in (after, until], or None."""
        after, until = self._clamp(after, until)
        if until <= after:
            return None
        if self.kind == "cron":
            assert self.cron is not None
            found = cron.last_fire(self.cron, self.time_zone, until, since=after, gap=self.gap, repeat=self.repeat)
        elif self.kind == "interval":
            assert self.interval is not None and self.anchor is not None
            step = self._steps(until)
            found = self.anchor + self.interval * step if step >= 0 else None
        else:
            found = self.at
        return found if found is not None and after < found <= until else None

    def first_between(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The first `limit` instants in (after, until]."""
        after, until = self._clamp(after, until)
        if until <= after or limit < 1:
            return []
        if self.kind == "cron":
            assert self.cron is not None
            policy = {"gap": self.gap, "repeat": self.repeat}
            return cron.fires_between(self.cron, self.time_zone, after, until, limit=limit, **policy)  # type: ignore[arg-type]
        if self.kind == "interval":
            first = self._steps(after) + 1
            return self._instants(first, min(self._steps(until), first + limit - 1))
        return [self.at] if self.at is not None and after < self.at <= until else []

    def last_few_between(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The last `limit` instants in (after, until], ascending. The work does not grow with the stretch."""
        after, until = self._clamp(after, until)
        if until <= after or limit < 1:
            return []
        if self.kind == "interval":
            last = self._steps(until)
            return self._instants(max(self._steps(after) + 1, last - limit + 1), last)
        window = timedelta(hours=1)
        while (start := until - min(window, until - after)) > after and self.count_between(start, until) < limit:
            window *= 4
        return self.first_between(start, until, self.count_between(start, until))[-limit:]

    def _instants(self, first: int, last: int) -> list[datetime]:
        assert self.interval is not None and self.anchor is not None
        return [self.anchor + self.interval * step for step in range(first, last + 1)]

    def _next(self, after: datetime) -> datetime | None:
        if self.kind == "cron":
            assert self.cron is not None
            return cron.next_fire(self.cron, self.time_zone, after, gap=self.gap, repeat=self.repeat)
        if self.kind == "interval":
            assert self.interval is not None and self.anchor is not None
            if after < self.anchor:
                return self.anchor
            try:
                return self.anchor + self.interval * (self._steps(after) + 1)
            except OverflowError:
                return None
        return self.at if self.at is not None and self.at > after else None

    def _steps(self, until: datetime) -> int:
        """Number of whole intervals from the anchor to `until`; -1 before the anchor, which is instant number 0."""
        assert self.interval is not None and self.anchor is not None
        return max((until - self.anchor) // self.interval, -1)

    def _clamp(self, after: datetime, until: datetime) -> tuple[datetime, datetime]:
        if self.start_at is not None:
            after = max(after, self.start_at - timedelta(microseconds=1))
        if self.end_at is not None:
            until = min(until, self.end_at)
        return after, until
