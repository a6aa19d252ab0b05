"""Why a run may not start yet.

Slots are never counted aside: they are the live runs, under the lock of the limit's row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import Count, Q

from tasks_app.models import Pool, Run, Task
from tasks_app.models.task import Overlap
from tasks_app.states import LIVE


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


def lock_slots(candidates: Iterable[Candidate], slots: Slots) -> Slots:
    """Lock the limits of the candidates that `slots` does not hold yet, in key order, and count what is free of each.

    Must run inside the transaction that then enqueues: the locks keep another dispatcher from counting the same slot.
    """
    candidates = list(candidates)
    task_ids = {candidate.task_id for candidate in candidates} - slots.of_task.keys()
    pool_ids = {candidate.pool_id for candidate in candidates} - slots.of_pool.keys()
    limited = Q(max_concurrent__isnull=False) | ~Q(overlap=Overlap.ALLOW)
    tasks = Task.objects.filter(limited, pk__in=task_ids).order_by("pk").select_for_update(no_key=True)
    task_limits = {
        pk: task_limit(most, overlap) for pk, most, overlap in tasks.values_list("pk", "max_concurrent", "overlap")
    }
    pools = Pool.objects.filter(slots__isnull=False, pk__in=pool_ids).order_by("pk").select_for_update(no_key=True)
    pool_limits = dict(pools.values_list("pk", "slots"))
    slots.of_task |= _free(task_limits, "task_id")
    slots.of_pool |= _free(pool_limits, "pool_id")
    return slots


def _free(limits: dict[int, int | None], column: str) -> dict[int, int]:
    if not limits:
        return {}
    live = Run.objects.filter(state__in=sorted(LIVE), **{f"{column}__in": list(limits)})
    used = Counter(dict(live.order_by().values_list(column).annotate(n=Count("pk"))))
    return {key: limit - used[key] for key, limit in limits.items() if limit is not None}
