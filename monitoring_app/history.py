"""History by age: where a time begins in tables whose ids grow with it, and pruning what is older."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Model

from tasks_app.forgetting import forget
from tasks_app.models import Run

BATCH = 1000


def first_since(model: type[Model], column: str, since: datetime) -> int:
    """The least id from which on rows are not older than `since`: ids grow with time. Some 20 looks at the key."""
    rows = model._default_manager.order_by("pk").values_list("pk", column)
    ends = rows.first(), rows.last()
    if ends[0] is None or ends[1] is None:
        return 0
    low, high = ends[0][0], ends[1][0] + 1
    while low < high:
        middle = (low + high) // 2
        found = rows.filter(pk__gte=middle).first()
        if found is None or found[1] >= since:
            high = middle
        else:
            low = found[0] + 1
    return int(low)


@dataclass(frozen=True, slots=True)
class Pruned:
    """`share` (0 to 1) of the old runs has been looked at until now, and so many of them deleted."""

    share: float
    deleted: int


def prune_runs(before: datetime, *, batch: int = BATCH) -> Iterator[Pruned]:
    """Delete the runs that ended before `before` (aware), oldest first: one transaction for each `batch` looked at.

    What something refers to that is not over is kept: see tasks_app.forgetting. Stop at any time, begin anew at will.
    """
    oldest = Run.objects.order_by("pk").values_list("pk", flat=True).first() or 0
    young = first_since(Run, "created_at", before)
    deleted, last = 0, oldest - 1
    while old := _ended(last, young, batch):
        last = old[-1][0]
        deleted += forget([pk for pk, ended in old if ended is not None and ended < before])
        yield Pruned((last - oldest + 1) / max(young - oldest, 1), deleted)


def _ended(after: int, below: int, limit: int) -> list[tuple[int, datetime | None]]:
    rows = Run.objects.filter(pk__gt=after, pk__lt=below).order_by("pk")
    return list(rows.values_list("pk", "finished_at")[:limit])
