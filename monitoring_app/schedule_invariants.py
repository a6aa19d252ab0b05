"""Invariants of schedules: every instant is answered, the next one lies ahead, a broken one is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db.models import Exists, OuterRef, Q, Subquery

from monitoring_app.violations import MOST_IDS, Scope, Violation
from tasks_app.fire_counts import Owed, all_owed
from tasks_app.fires import GRACE, Rule
from tasks_app.models import Run, Schedule
from tasks_app.models.schedule import ScheduleKind

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
# A schedule of a fixed delay is armed anew within this time of the end of its run.
REARMED = timedelta(seconds=10)


def owed(since: datetime | None, now: datetime) -> list[Owed]:
    """The schedules whose answers since then are not as many as their instants; looked at twice, because a schedule
    may be edited, deleted or fired between two statements."""
    suspects = [
        one.schedule_id for one in all_owed(Schedule.objects.all(), since=since or _EVER, now=now) if one.missing
    ]
    again = all_owed(Schedule.objects.filter(pk__in=suspects), since=since or _EVER, now=now) if suspects else ()
    return [one for one in again if one.missing]


def unanswered(scope: Scope) -> Iterator[Violation]:
    """I2: as many answers as instants, for each schedule since its rule stands; the ids are those of schedules."""
    found = owed(scope.since, scope.now)
    late = [one for one in found if one.missing > 0]
    if late:
        total = sum(one.missing for one in late)
        detail = f"{total} instants have no answer, in schedules: {len(late)}. {_example(late[0])}"
        yield Violation("I2", detail, tuple(one.schedule_id for one in late[:MOST_IDS]), more=len(late) > MOST_IDS)
    many = [one for one in found if one.missing < 0]
    if many:
        detail = f"There are more answers than instants, in schedules: {len(many)}. {_example(many[0])}"
        yield Violation("I2", detail, tuple(one.schedule_id for one in many[:MOST_IDS]), more=len(many) > MOST_IDS)


def _example(one: Owed) -> str:
    stretch = f"from {one.after.isoformat()} to {one.until.isoformat()}"
    return f"Schedule {one.schedule_id}: {one.answered} answers for {one.expected} instants {stretch}."


def not_ahead(scope: Scope) -> Iterator[Violation]:
    """I11: the next instant of an active schedule lies ahead."""
    active = Schedule.objects.filter(enabled=True, error="")
    behind = list(active.filter(next_fire_at__lt=scope.now - GRACE).values_list("pk", flat=True)[: MOST_IDS + 1])
    if behind:
        text = "The next instant of an active schedule lies in the past."
        yield Violation("I11", text, tuple(behind[:MOST_IDS]), more=len(behind) > MOST_IDS)
    unarmed = active.filter(next_fire_at=None).filter(Q(end_at=None) | Q(end_at__gt=scope.now))
    delayed = unarmed.filter(kind=ScheduleKind.FIXED_DELAY).annotate(ended=Subquery(_NEWEST.values("finished_at")[:1]))
    lost = list(delayed.filter(Q(ended__lt=scope.now - REARMED) | ~_HAS_RUN).values_list("pk", flat=True)[:MOST_IDS])
    others = unarmed.exclude(kind__in=(ScheduleKind.FIXED_DELAY, ScheduleKind.ONCE)).select_related("task")
    lost += [rule.schedule.pk for rule in map(Rule.of, others) if rule.timing and rule.timing.next_after(scope.now)]
    if lost:
        yield Violation("I11", "An active schedule is not armed.", tuple(lost[:MOST_IDS]), more=len(lost) > MOST_IDS)


_NEWEST = Run.objects.filter(schedule=OuterRef("pk")).order_by("-nominal_at")
_HAS_RUN = Exists(Run.objects.filter(schedule=OuterRef("pk")))


def broken_but_armed(scope: Scope) -> Iterator[Violation]:
    """I12: what could not be read is set aside with its error, or every tick would stumble over it again."""
    rows = Schedule.objects.exclude(error="").filter(enabled=True, next_fire_at__lte=scope.now)
    found = list(rows.values_list("pk", flat=True)[:MOST_IDS])
    if found:
        yield Violation("I12", "A schedule that cannot be read is still armed.", tuple(found))
