"""Writing the fire ledger: consecutive stretches with the same answer grow one entry."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q

from tasks_app import rowset
from tasks_app.catch_up import Stretch
from tasks_app.models import LedgerEntry, Run


def record(stretches: Sequence[tuple[int, Stretch]]) -> None:
    """Record (schedule id, stretch) pairs; the caller holds the rows of the schedules locked. Three statements at most.

    A stretch that follows the schedule's newest entry with the same answer and reason extends it, so that a task that
    is paused for a year costs one row. Runs between the two break the row: they are the newest answer then. So does a
    change of the rule: an entry holds instants of one rule only, or nobody could tell them one by one any more.
    """
    if not stretches:
        return
    newest = _newest_entries({schedule_id for schedule_id, _ in stretches})
    grown, fresh = [], []
    for schedule_id, stretch in stretches:
        entry = newest.get(schedule_id)
        if entry is not None and entry[1:] == (stretch.answer, stretch.reason):
            grown.append({"id": entry[0], "last_at": stretch.last_at, "n": stretch.count})
        else:
            fresh.append(_entry(schedule_id, stretch))
        newest.pop(schedule_id, None)
    if grown:
        columns = {"id": "bigint", "last_at": "timestamptz", "n": "int"}
        with connection.cursor() as cursor:
            cursor.execute(
                f"""UPDATE tasks_app_ledgerentry AS entry SET last_at = k.last_at, count = entry.count + k.n
                FROM {rowset.table("k", columns)} WHERE entry.id = k.id""",
                [rowset.encode(grown)],
            )
    LedgerEntry.objects.bulk_create(fresh, ignore_conflicts=True, batch_size=2000)


def _entry(schedule_id: int, stretch: Stretch) -> LedgerEntry:
    return LedgerEntry(
        schedule_id=schedule_id,
        first_at=stretch.first_at,
        last_at=stretch.last_at,
        count=stretch.count,
        answer=stretch.answer,
        reason=stretch.reason,
    )


def _newest_entries(schedule_ids: set[int]) -> dict[int, tuple[int, str, str]]:
    """{schedule id: (entry id, answer, reason)} where the newest answer of the schedule is an entry, not a run."""
    later_entry = LedgerEntry.objects.filter(schedule=OuterRef("schedule"), first_at__gt=OuterRef("first_at"))
    later_run = Run.objects.filter(schedule=OuterRef("schedule"), nominal_at__gt=OuterRef("last_at"))
    rows = LedgerEntry.objects.filter(~Exists(later_entry), ~Exists(later_run), schedule_id__in=schedule_ids)
    rows = rows.filter(Q(schedule__rule_since__isnull=True) | Q(first_at__gt=F("schedule__rule_since")))
    return {
        schedule: (id, answer, reason)
        for schedule, id, answer, reason in rows.values_list("schedule_id", "id", "answer", "reason")
    }
