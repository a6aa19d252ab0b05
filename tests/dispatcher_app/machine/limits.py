"""I6 by arithmetic: what runs take of each limit, and how much there is of it by the rows as they stand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator

from tasks_app.models import Backfill, Pool, Resource, Task, TaskResource
from tasks_app.models.task import Overlap
from tests.dispatcher_app.machine.snapshot import Seen

Name = tuple[str, int, str]


def task_limit(task: Task) -> int | None:
    return task.max_concurrent if task.overlap == Overlap.ALLOW else task.max_concurrent or 1


class Limits:
    """All limits, with what these runs take of each."""

    def __init__(self, taken_by: Iterable[Seen]) -> None:
        self.tasks = Task.objects.in_bulk()
        self.resources = Resource.objects.in_bulk()
        # {task: {resource: amount}}
        self.takes: dict[int, dict[int, int]] = defaultdict(dict)
        for task, resource, amount in TaskResource.objects.values_list("task_id", "resource_id", "amount"):
            self.takes[task][resource] = amount
        self._slots = dict(Pool.objects.values_list("pk", "slots"))
        self._backfills = Backfill.objects.in_bulk()
        self._used: Counter[Name] = Counter()
        for run in taken_by:
            for name, amount, _most in self._of(run):
                self._used[name] += amount

    def _of(self, run: Seen) -> Iterator[tuple[Name, int, int]]:
        """Each limit that the run is under: what it takes of it, and how much there is."""
        task = self.tasks[run.task_id]
        if (most := task_limit(task)) is not None:
            yield ("task", task.pk, ""), 1, most
        if run.concurrency_key:
            yield ("key", task.pk, run.concurrency_key), 1, task.max_concurrent_per_key
        if (slots := self._slots[run.pool_id]) is not None:
            yield ("pool", run.pool_id, ""), run.weight, slots
        for resource, amount in self.takes[task.pk].items():
            if (capacity := self.resources[resource].capacity) is not None:
                yield ("resource", resource, ""), amount, capacity
        if run.backfill_id is not None:
            backfill = self._backfills[run.backfill_id]
            yield ("backfill", backfill.pk, ""), 1, backfill.max_concurrent if backfill.state == "active" else 0

    def check(self, fresh: Iterable[Seen]) -> None:
        """Nothing comes to live behind a full limit; one that was lowered is met as runs end."""
        for run in fresh:
            for name, _amount, most in self._of(run):
                assert self._used[name] <= most, f"I6: {name} has {self._used[name]} of {most}"

    def held_back(self, ready: Collection[Seen]) -> set[int]:
        """Which of these find no room. One that is too heavy for what is left may have it kept for itself, so that
        lighter ones find none either."""
        short = {name for run in ready for name, amount, most in self._of(run) if self._used[name] + amount > most}
        return {run.id for run in ready if any(name in short for name, _amount, _most in self._of(run))}
