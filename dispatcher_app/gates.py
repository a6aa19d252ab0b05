"""Why a run may not start yet.

Slots are never counted aside: they are the live runs, under the lock of the limit's row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from tasks_app.models import Pool, Run, Task
from tasks_app.models.task import Overlap
from tasks_app.states import LIVE

_LIMITED = Q(max_concurrent__isnull=False) | ~Q(overlap=Overlap.ALLOW)
_TASK_COLUMNS = ("pk", "max_concurrent", "overlap")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A waiting run whose own gates (due, upstream, hold, pause) are open; the shared ones are still to be asked."""

    id: int
    attempt: int
    task_id: int
    pool_id: int
    version_id: int


@dataclass(slots=True)
class Slots:
    """What is free of each limit; a task or pool that is not in here has no limit."""

    of_task: dict[int, int] = field(default_factory=dict)
    of_pool: dict[int, int] = field(default_factory=dict)

    def admit(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Take slots for as many candidates as there are, in their order."""
        return [candidate for candidate in candidates if self._take(candidate)]

    @property
    def full_tasks(self) -> list[int]:
        return [task for task, free in self.of_task.items() if free <= 0]

    @property
    def full_pools(self) -> list[int]:
        return [pool for pool, free in self.of_pool.items() if free <= 0]

    def _take(self, candidate: Candidate) -> bool:
        if self.of_task.get(candidate.task_id, 1) <= 0 or self.of_pool.get(candidate.pool_id, 1) <= 0:
            return False
        if candidate.task_id in self.of_task:
            self.of_task[candidate.task_id] -= 1
        if candidate.pool_id in self.of_pool:
            self.of_pool[candidate.pool_id] -= 1
        return True


def task_limit(max_concurrent: int | None, overlap: str) -> int | None:
    """How many runs of a task may be live at once, or None."""
    return max_concurrent if overlap == Overlap.ALLOW else max_concurrent or 1


def full_limits() -> Slots:
    """The limits that have nothing free, at a first look without locks: runs behind them need not even be fetched.

    A slot that gets free meanwhile comes with a nudge, and so with another look.
    """
    tasks = Task.objects.filter(_LIMITED).annotate(live=_live("task_id"))
    pools = Pool.objects.filter(slots__isnull=False).annotate(live=_live("pool_id"))
    full_tasks = tasks.filter(live__gte=Coalesce("max_concurrent", 1)).values_list("pk", flat=True)
    full_pools = pools.filter(live__gte=F("slots")).values_list("pk", flat=True)
    return Slots(dict.fromkeys(full_tasks, 0), dict.fromkeys(full_pools, 0))


def _live(column: str) -> Coalesce:
    live = Run.objects.filter(state__in=sorted(LIVE), **{column: OuterRef("pk")}).order_by()
    return Coalesce(Subquery(live.values(column).annotate(n=Count("pk")).values("n")), 0)


def lock_slots(candidates: Iterable[Candidate], slots: Slots, *, wait: bool = True) -> Slots:
    """Lock the limits of the candidates that `slots` does not hold yet, in key order, and count what is free of each.

    Must run inside the transaction that then enqueues: the locks keep another dispatcher from counting the same slot.
    With `wait=False` a limit that another dispatcher holds counts as full: whoever holds some limits already must not
    wait for more of them, or two dispatchers could wait for each other.
    """
    candidates = list(candidates)
    task_ids = {candidate.task_id for candidate in candidates} - slots.of_task.keys()
    pool_ids = {candidate.pool_id for candidate in candidates} - slots.of_pool.keys()
    tasks = Task.objects.filter(_LIMITED, pk__in=task_ids).order_by("pk")
    pools = Pool.objects.filter(slots__isnull=False, pk__in=pool_ids).order_by("pk")
    task_limits = {pk: task_limit(most, overlap) for pk, most, overlap in _locked(tasks, wait, _TASK_COLUMNS)}
    pool_limits = dict(_locked(pools, wait, ("pk", "slots")))
    if not wait:
        slots.of_task |= dict.fromkeys(tasks.values_list("pk", flat=True), 0)
        slots.of_pool |= dict.fromkeys(pools.values_list("pk", flat=True), 0)
    slots.of_task |= _free(task_limits, "task_id")
    slots.of_pool |= _free(pool_limits, "pool_id")
    return slots


def _locked(rows: QuerySet[Any], wait: bool, columns: Sequence[str]) -> list[Any]:
    return list(rows.select_for_update(no_key=True, skip_locked=not wait).values_list(*columns))


def _free(limits: dict[int, int | None], column: str) -> dict[int, int]:
    if not limits:
        return {}
    live = Run.objects.filter(state__in=sorted(LIVE), **{f"{column}__in": list(limits)})
    used = Counter(dict(live.order_by().values_list(column).annotate(n=Count("pk"))))
    return {key: limit - used[key] for key, limit in limits.items() if limit is not None}
