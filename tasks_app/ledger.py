"""Writing the fire ledger: consecutive stretches with the same answer grow one entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q

from tasks_app import rowset
from tasks_app.catch_up import Stretch
from tasks_app.fires import Rule
from tasks_app.models import LedgerEntry, Run

BATCH = 2000
_COLUMNS = {
    "schedule_id": "bigint",
    "first_at": "timestamptz",
    "last_at": "timestamptz",
    "count": "int",
    "answer": "text",
    "reason": "text",
}


def record(stretches: Sequence[tuple[int, Stretch]]) -> None:
    """Record (schedule id, stretch) pairs; the caller holds the rows of the schedules locked. Three statements at most.

    A stretch that follows the schedule's newest entry with the same answer and reason extends it, so that a task that
    is paused for a year costs one row. Runs between the two break the row: they are the newest answer then. So does a
    change of the rule: an entry holds instants of one rule only, or nobody could tell them one by one any more. Where
    the clock was set back, the newest entry may lie behind the stretch; then that stands by itself.
    """
    if not stretches:
        return
    newest = _newest_entries({schedule_id for schedule_id, _ in stretches})
    grown, fresh = [], []
    for schedule_id, stretch in stretches:
        entry = newest.get(schedule_id)
        if entry is not None and _is_followed(entry, stretch):
            grown.append({"id": entry.pk, "last_at": stretch.last_at, "n": stretch.count})
        else:
            fresh.append(_entry(schedule_id, stretch))
        newest.pop(schedule_id, None)
    _write(grown, fresh)


def fill(stretches: Sequence[tuple[Rule, Stretch]]) -> None:
    """Record stretches of the past that had another answer before, a run. Four statements at most.

    One that follows an entry with the same answer under the same rule, without an instant between, extends it.
    """
    if not stretches:
        return
    before = _entries_before(stretches)
    grown, fresh = [], []
    for place, (rule, stretch) in enumerate(stretches):
        entry = before.get(place)
        if entry is not None and rule.continues(entry, stretch):
            grown.append({"id": entry.pk, "last_at": stretch.last_at, "n": stretch.count})
        else:
            fresh.append(_entry(rule.schedule.pk, stretch))
    _write(grown, fresh)


def _is_followed(entry: LedgerEntry, stretch: Stretch) -> bool:
    same = (entry.answer, entry.reason) == (stretch.answer, stretch.reason)
    return same and entry.last_at < stretch.first_at


def _write(grown: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]]) -> None:
    if grown:
        columns = {"id": "bigint", "last_at": "timestamptz", "n": "int"}
        with connection.cursor() as cursor:
            cursor.execute(
                f"""UPDATE tasks_app_ledgerentry AS entry SET last_at = k.last_at, count = entry.count + k.n
                FROM {rowset.table("k", columns)} WHERE entry.id = k.id""",
                [rowset.encode(grown)],
            )
    for start in range(0, len(fresh), BATCH):
        _insert(fresh[start : start + BATCH])


def _insert(fresh: Sequence[Mapping[str, Any]]) -> None:
    """What is known already stays as it is. Where the clock was set back, a stretch is answered again and may now reach
    further than its entry does: then it takes the place of that one, or the instants at its end had no answer."""
    table, names = rowset.table("k", _COLUMNS), ", ".join(_COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            # WHERE true: without it SQLite reads ON as the beginning of a join.
            f"""INSERT INTO tasks_app_ledgerentry ({names}) SELECT {names} FROM {table} WHERE true
            ON CONFLICT (schedule_id, first_at) DO UPDATE SET last_at = excluded.last_at, count = excluded.count,
                answer = excluded.answer, reason = excluded.reason
            WHERE excluded.last_at > tasks_app_ledgerentry.last_at""",
            [rowset.encode(fresh)],
        )


def _entry(schedule_id: int, stretch: Stretch) -> dict[str, Any]:
    return {
        "schedule_id": schedule_id,
        "first_at": stretch.first_at,
        "last_at": stretch.last_at,
        "count": stretch.count,
        "answer": str(stretch.answer),
        "reason": str(stretch.reason),
    }


def _newest_entries(schedule_ids: set[int]) -> dict[int, LedgerEntry]:
    """{schedule id: its newest entry} where the newest answer of the schedule is an entry, not a run."""
    later_entry = LedgerEntry.objects.filter(schedule=OuterRef("schedule"), first_at__gt=OuterRef("first_at"))
    later_run = Run.objects.filter(schedule=OuterRef("schedule"), nominal_at__gt=OuterRef("last_at"))
    rows = LedgerEntry.objects.filter(~Exists(later_entry), ~Exists(later_run), schedule_id__in=schedule_ids)
    rows = rows.filter(Q(schedule__rule_since__isnull=True) | Q(first_at__gt=F("schedule__rule_since")))
    return {entry.schedule_id: entry for entry in rows}


def _entries_before(stretches: Sequence[tuple[Rule, Stretch]]) -> dict[int, LedgerEntry]:
    """{place of the stretch: the last entry that begins before it}, locked: somebody else may be extending it."""
    columns = {"place": "int", "schedule": "bigint", "first": "timestamptz"}
    rows = (
        {"place": n, "schedule": rule.schedule.pk, "first": one.first_at} for n, (rule, one) in enumerate(stretches)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT k.place, (SELECT entry.id FROM tasks_app_ledgerentry AS entry
                WHERE entry.schedule_id = k.schedule AND entry.first_at < k.first ORDER BY entry.first_at DESC LIMIT 1)
            FROM {rowset.table("k", columns)}""",
            [rowset.encode(rows)],
        )
        found = {place: id for place, id in cursor.fetchall() if id is not None}
    entries = LedgerEntry.objects.filter(pk__in=set(found.values())).order_by("pk").select_for_update(no_key=True)
    by_id = {entry.pk: entry for entry in entries}
    return {place: by_id[id] for place, id in found.items() if id in by_id}
