"""Which instants a backfill runs: those of a schedule in a time of the past, by what there is of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile

from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext as _

from tasks_app import allowance
from tasks_app.errors import InvalidInput
from tasks_app.fire_answers import Answer
from tasks_app.fires import entries_between
from tasks_app.models import LedgerEntry, Run, Schedule, Task
from tasks_app.models.backfill import BackfillState, Reprocess
from tasks_app.models.run import RunType
from tasks_app.services.schedule_rules import allowance_of, timing_of
from tasks_app.states import TERMINAL, RunState

MOST_INSTANTS = 10_000
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Instant:
    """An instant with what there is of it, and whether the backfill plans a run for it.

    `run_id` and `state` are those of its newest run; without one `answer` and `reason` are those of the fire ledger,
    empty where it says nothing. `why_not`: `has_run`, `under_way`, `in_backfill`, `to_be_fired`, or empty.
    """

    nominal_at: datetime
    run_id: int | None = None
    state: str = ""
    answer: str = ""
    reason: str = ""
    why_not: str = ""

    @property
    def planned(self) -> bool:
        return not self.why_not


def considered(task: Task, schedule: Schedule, start: datetime, end: datetime, reprocess: str) -> list[Instant]:
    """Every instant of the schedule in [start, end], ascending; three statements. Raises InvalidInput where there are
    more than 10,000, or the rule cannot be read."""
    wanted = instants_of(schedule, start, end)
    newest = _newest_runs(task, schedule, start, end)
    filled = _in_open_backfills(task, schedule, start, end)
    entries = list(entries_between([schedule.pk], start, end + _TICK))
    fires_next = schedule.next_fire_at if schedule.enabled and not schedule.error else None
    found, place = [], 0
    for at in wanted:
        run_id, state = newest.get(at, (None, ""))
        while place < len(entries) and entries[place].last_at < at:
            place += 1
        entry = entries[place] if run_id is None and place < len(entries) else None
        answer, reason = _answer(entry, at)
        ended = state if run_id is not None else _forgotten_state(answer, reason)
        why_not = _why_not(ended, reprocess, is_filled=at in filled)
        if run_id is None and fires_next is not None and fires_next <= at:
            why_not = "to_be_fired"
        found.append(Instant(at, run_id, state, answer, reason, why_not))
    return found


def instants_of(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """The instants of the schedule in [start, end] at which it runs: one that its calendar moves stands where it was.

    Raises InvalidInput.
    """
    try:
        timing, allowed = timing_of(schedule), allowance_of(schedule)
    except ValueError as error:
        raise InvalidInput(schedule=str(error)) from error
    if allowed.calendar is None:
        count = timing.count_between(start - _TICK, end)
        found = timing.first_between(start - _TICK, end, MOST_INSTANTS) if count <= MOST_INSTANTS else []
    else:
        nominal = (fire.nominal_at for fire in allowance.fires(timing, allowed, start - _TICK))
        found = list(islice(takewhile(lambda at: at <= end, nominal), MOST_INSTANTS + 1))
        count = len(found)
    if count > MOST_INSTANTS:
        words = {"count": count, "most": MOST_INSTANTS}
        raise InvalidInput(to=_("These are %(count)d instants; one backfill takes at most %(most)d.") % words)
    return found


def _newest_runs(task: Task, schedule: Schedule, start: datetime, end: datetime) -> dict[datetime, tuple[int, str]]:
    """{instant: (run, state)}: its own run, that of a backfill, or one that ran it again, whichever is the newest."""
    own = Q(run_type=RunType.SCHEDULED, schedule=schedule) | Q(run_type=RunType.RERUN)
    own |= Q(run_type=RunType.BACKFILL, backfill__schedule=schedule)
    within = Run.objects.filter(task=task, nominal_at__gte=start, nominal_at__lte=end)
    rows = within.filter(own).order_by("pk").values_list("nominal_at", "pk", "state")
    found = {at: (pk, state) for at, pk, state in rows if at is not None}
    # Of a run with several parts: as long as one is under way it is, and it has failed with any of them.
    parts = within.filter(run_type=RunType.PART).exclude(state=RunState.SUCCEEDED).order_by("pk")
    for at, whole, state in parts.values_list("nominal_at", "shard_of_id", "state"):
        pk, so_far = found.get(at, (0, "")) if at is not None else (0, "")
        if at is not None and pk == whole and so_far in TERMINAL:
            found[at] = pk, state
    return found


def _in_open_backfills(task: Task, schedule: Schedule, start: datetime, end: datetime) -> set[datetime]:
    """The instants that a backfill has planned which is neither cancelled nor done."""
    rest = Run.objects.filter(backfill=OuterRef("backfill")).exclude(state__in=sorted(TERMINAL))
    runs = Run.objects.filter(task=task, run_type=RunType.BACKFILL, nominal_at__gte=start, nominal_at__lte=end)
    runs = runs.filter(Exists(rest), backfill__schedule=schedule).exclude(backfill__state=BackfillState.CANCELLED)
    return {at for at in runs.values_list("nominal_at", flat=True) if at is not None}


def _answer(entry: LedgerEntry | None, at: datetime) -> tuple[str, str]:
    return (entry.answer, entry.reason) if entry is not None and entry.first_at <= at else ("", "")


def _forgotten_state(answer: str, reason: str) -> str:
    """What is known of how a run ended that was deleted since."""
    if answer != Answer.RUN:
        return ""
    return RunState.FAILED if reason else RunState.SUCCEEDED


def _why_not(state: str, reprocess: str, *, is_filled: bool) -> str:
    if is_filled:
        return "in_backfill"
    if not state:
        return ""
    if state not in TERMINAL:
        return "under_way"
    again = reprocess == Reprocess.ALL or (reprocess == Reprocess.FAILED and state != RunState.SUCCEEDED)
    return "" if again else "has_run"
