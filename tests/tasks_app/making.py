"""Tasks, schedules, workers and runs for tests of the core, as short as a test wants to say it. Time stands at NOW."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any
from uuid import UUID, uuid4

from access_app.actors import system_actor
from tasks_app import transitions
from tasks_app.models import Pool, Project, Run, RunEvent, Schedule, Task, TaskDependency, TaskVersion
from tasks_app.models.run import RunType
from tasks_app.moves import Outcome
from tasks_app.planning import Firing, plan_runs
from tasks_app.services import schedules
from tasks_app.services.tasks import VERSION_FIELDS
from tasks_app.states import TERMINAL, RunState
from workers_app.models import Worker, WorkerState

NOW = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
ACTOR = "test"
ANSWERED = UUID(int=1)
_numbers = count(1)


def later(**amount: float) -> datetime:
    return NOW + timedelta(**amount)


def default_pool() -> Pool:
    return Pool.objects.get(name="default")


def make_pool(name: str, slots: int | None = None) -> Pool:
    return Pool.objects.create(name=name, slots=slots)


def make_task(name: str | None = None, *, project: Project | None = None, **fields: Any) -> Task:
    """A task with one version, written straight to the tables: the services have tests of their own."""
    version = {key: fields.pop(key) for key in VERSION_FIELDS if key in fields}
    task = Task.objects.create(
        name=name or f"task {next(_numbers)}",
        project=project or Project.objects.get(name="default"),
        pool=fields.pop("pool", None) or default_pool(),
        **fields,
    )
    spec = {"executor": "callable", "command": "workers_app.samples.noop", **version}
    task.version = TaskVersion.objects.create(task=task, number=1, **spec)
    task.save(update_fields=["version"])
    return task


def make_schedule(task: Task | None = None, *, after: datetime, **fields: Any) -> Schedule:
    """A schedule that has answered every instant up to `after`."""
    values = {"expression": "* * * * *", **fields}
    return schedules.create(system_actor(), task or make_task(), values, now=after)


def depend(*chain: Task) -> None:
    """Each task waits for the one before it."""
    for upstream, downstream in pairwise(chain):
        TaskDependency.objects.create(upstream=upstream, downstream=downstream)


def plan(task: Task, number: int = 1, *, now: datetime = NOW, **firing: Any) -> list[int]:
    """Ids of new waiting runs of the task (the roots; what is downstream is planned with them)."""
    values = {"run_type": RunType.MANUAL, "due_at": now, **firing}
    ids = plan_runs([Firing(task, **values) for _ in range(number)], now=now, actor=ACTOR).run_ids
    return [id for id in ids if id is not None]


def member(root: int, task: Task) -> Run:
    """The run of a downstream task in the firing of `root`."""
    return Run.objects.get(root_id=root, task=task)


def enqueue(*ids: int, now: datetime = NOW) -> None:
    moved = transitions.enqueue(ids, now=now, sweep_at=now + timedelta(seconds=5), actor=ACTOR)
    assert sorted(moved) == sorted(ids)


def start(*ids: int, worker_id: UUID = ANSWERED, now: datetime = NOW) -> None:
    """waiting -> running."""
    enqueue(*ids, now=now)
    pairs = list(Run.objects.filter(pk__in=ids).values_list("pk", "attempt"))
    assert len(transitions.claim(pairs, worker_id=worker_id, now=now, actor=ACTOR)) == len(ids)


def end(id: int, state: RunState = RunState.SUCCEEDED, *, now: datetime = NOW, **outcome: Any) -> None:
    """running -> terminal, by its worker."""
    run = Run.objects.get(pk=id)
    assert run.worker_id is not None
    ended = Outcome(id, run.attempt, state, **outcome)
    assert transitions.finish([ended], worker_id=run.worker_id, now=now, actor=ACTOR) == {id}


def bring(id: int, state: RunState, *, now: datetime = NOW) -> None:
    """Move a waiting run to the state by the transitions that lead there."""
    if state is RunState.QUEUED:
        enqueue(id, now=now)
    elif state is RunState.CANCELLED:
        assert transitions.cancel_unstarted([id], now=now, actor=ACTOR) == {id}
    elif state in (RunState.SKIPPED, RunState.UPSTREAM_FAILED, RunState.EXPIRED):
        assert transitions.settle({id: (state, "", "")}, now=now, actor=ACTOR) == {id}
    elif state is not RunState.WAITING:
        start(id, now=now)
        if state in TERMINAL:
            end(id, state, now=now)
    assert state_of(id) == state


def state_of(id: int) -> str:
    return Run.objects.values_list("state", flat=True).get(pk=id)


def events_of(id: int) -> list[tuple[str, str, int]]:
    """(from, to, attempt) of each change of state, in order."""
    return list(RunEvent.objects.filter(run_id=id).order_by("id").values_list("from_state", "to_state", "attempt"))


def make_worker(pool: Pool | None = None, *, slots: int = 4, state: str = WorkerState.ONLINE, **fields: Any) -> Worker:
    values = {"started_at": NOW, "beat_at": NOW, "lease_until": later(seconds=15), "id": uuid4(), **fields}
    name = f"worker-{next(_numbers)}"
    return Worker.objects.create(
        name=name, host="node", pid=1, pool=pool or default_pool(), slots=slots, state=state, **values
    )
