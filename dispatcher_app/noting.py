"""Between two steps: what ended attempts say of the resources they used, and of their tasks.

A worker that ends an attempt tells nobody. It is found here, from the rows: each attempt counts once, whatever number
of dispatchers look and wherever one of them dies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, Value, When

from tasks_app import breaker_columns
from tasks_app.breaker import record
from tasks_app.models import Resource, Run, RunEvent, Task, TaskResource
from tasks_app.run_limits import WITH_BREAKER
from tasks_app.services.pauses import count_failures
from tasks_app.states import TERMINAL, Reason, RunState

log = structlog.get_logger(__name__)
BATCH = 2000
_BAD = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.LOST, RunState.QUARANTINED})
# An attempt that ended for one of these has not met its target, or not been left to.
_SAYS_NOTHING = frozenset(
    {
        Reason.INVALID_PARAMETERS,
        Reason.INVALID_MACRO,
        Reason.SCRIPT_MISSING,
        Reason.COMMAND_NOT_FOUND,
        Reason.ADDRESS_REFUSED,
        Reason.WORKER_LOST,
        Reason.WORKER_STOPPED,
        Reason.CANCEL_REQUESTED,
        Reason.INTERNAL,
        Reason.POISON,
    }
)


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one attempt: `state` is what the run went to, `waiting` for another attempt."""

    task_id: int
    state: str
    reason: str
    released_at: datetime

    @property
    def target_answered(self) -> bool | None:
        """Whether its target did what was asked; None when the attempt does not say."""
        if self.state == RunState.SUCCEEDED:
            return True
        failed = self.state in (RunState.FAILED, RunState.TIMED_OUT, RunState.WAITING)
        return False if failed and self.reason not in _SAYS_NOTHING else None

    @property
    def task_failed(self) -> bool | None:
        """Whether the task failed with it; None when the run goes on, or came to nothing for no fault of the task's.

        A lost worker counts: it may well be the run that took it down. A worker that was stopped does not.
        """
        if self.state == RunState.SUCCEEDED:
            return False
        return True if self.state in _BAD and self.reason != Reason.WORKER_STOPPED else None


def note_ended(now: datetime, *, limit: int = BATCH) -> int:
    """Tell breakers and tasks of up to `limit` runs with ended attempts, in one transaction. Returns how many runs.

    What another dispatcher holds is passed over, here and in the tasks and resources: it is told at the next tick.
    """
    if not _untold().exists():
        return 0
    with transaction.atomic():
        runs = _lock_runs(limit)
        if not runs:
            return 0
        tasks, resources, runs = _lock_listeners(runs)
        if not runs:
            return 0
        ended = _ended(runs)
        _tell_breakers(resources, ended, now)
        _tell_tasks(tasks, ended, now)
        _mark_told(runs)
    return len(runs)


def _untold() -> QuerySet[Run]:
    news = Q(finished_at__isnull=False) | Q(attempt__gt=F("told_attempt") + 1)
    return Run.objects.filter(news, tell_limits=True)


def _lock_runs(limit: int) -> list[Run]:
    rows = _untold().order_by("id").select_for_update(of=("self",), no_key=True, skip_locked=True)
    return list(rows.only("id", "task_id", "attempt", "told_attempt", "finished_at")[:limit])


def _lock_listeners(
    runs: Sequence[Run],
) -> tuple[dict[int, Task], dict[int, list[Resource]], list[Run]]:
    """Tasks that count their failures, resources with a breaker for each task, and the runs whose listeners are ours.

    Nothing is waited for: whoever deletes a task holds it and waits for its runs, which we hold.
    """
    task_ids = {run.task_id for run in runs}
    counting = Task.objects.filter(pk__in=task_ids, auto_pause_after__isnull=False)
    # Before the locks: what is looked for in vain among the locked is held by somebody else.
    wanted_tasks = set(counting.values_list("pk", flat=True))
    uses = TaskResource.objects.filter(WITH_BREAKER, task_id__in=task_ids)
    wanted = list(uses.order_by("resource_id").values_list("task_id", "resource_id"))
    locked = counting.order_by("pk").select_for_update(of=("self",), no_key=True, skip_locked=True)
    tasks = {task.pk: task for task in locked}
    rows = Resource.objects.filter(pk__in={resource for _task, resource in wanted}).order_by("pk")
    resources = {row.pk: row for row in rows.select_for_update(of=("self",), no_key=True, skip_locked=True)}
    held = {task for task, resource in wanted if resource not in resources} | (wanted_tasks - tasks.keys())
    of_task: dict[int, list[Resource]] = defaultdict(list)
    for task, resource in wanted:
        if resource in resources:
            of_task[task].append(resources[resource])
    return tasks, of_task, [run for run in runs if run.task_id not in held]


def _ended(runs: Sequence[Run]) -> list[Ended]:
    """The attempts of the runs that ended and have not been told, in the order in which they ended: one query."""
    told = {run.pk: (run.task_id, run.told_attempt) for run in runs}
    events = RunEvent.objects.filter(run_id__in=list(told)).order_by("id")
    events = events.filter(Q(from_state=RunState.RUNNING) | Q(to_state=RunState.QUEUED))
    released: dict[tuple[int, int], datetime] = {}
    ended: list[Ended] = []
    for run_id, attempt, to_state, reason, at in events.values_list("run_id", "attempt", "to_state", "reason", "at"):
        task_id, last = told[run_id]
        if to_state == RunState.QUEUED:
            released[run_id, attempt] = at
        elif attempt > last:
            ended.append(Ended(task_id, to_state, reason, released.get((run_id, attempt), at)))
    return ended


def _tell_breakers(resources: dict[int, list[Resource]], ended: Iterable[Ended], now: datetime) -> None:
    changed: dict[int, Resource] = {}
    for one in ended:
        answered = one.target_answered
        if answered is None:
            continue
        for resource in resources.get(one.task_id, ()):
            before = breaker_columns.breaker_of(resource)
            policy = breaker_columns.policy_of(resource)
            after = record(before, policy, released_at=one.released_at, succeeded=answered, now=now)
            if after == before:
                continue
            if after.state != before.state:
                log.warning("circuit breaker", resource=resource.name, was=before.state, now=after.state)
            breaker_columns.put(resource, after)
            changed[resource.pk] = resource
    if changed:
        Resource.objects.bulk_update(changed.values(), breaker_columns.STATE_COLUMNS)


def _tell_tasks(tasks: dict[int, Task], ended: Iterable[Ended], now: datetime) -> None:
    failures = {pk: task.failures_in_a_row for pk, task in tasks.items()}
    for one in ended:
        if one.task_id in failures and one.state in TERMINAL and (failed := one.task_failed) is not None:
            failures[one.task_id] = failures[one.task_id] + 1 if failed else 0
    paused = count_failures(failures, tasks, now=now)
    if paused:
        log.warning("tasks paused after too many failures in a row", tasks=paused)


def _mark_told(runs: Sequence[Run]) -> None:
    over = Q(finished_at__isnull=False)
    Run.objects.filter(pk__in=[run.pk for run in runs]).update(
        told_attempt=Case(When(over, then=F("attempt")), default=F("attempt") - 1),
        tell_limits=Case(When(over, then=Value(False)), default=Value(True)),
    )
