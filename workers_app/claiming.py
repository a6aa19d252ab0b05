"""What a worker has to know of the runs that it has claimed: jobs, with parameters filled in. For workers of every
kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks_app.models import TaskVersion
from tasks_app.moves import Claimed
from workers_app.jobs import Active, Job
from workers_app.limits import Limits
from workers_app.parameters import fill_in
from workers_app.retries import first_starts, policy_of
from workers_app.secrets_of_runs import NOTHING, Given, given_to


def specs_of(version_ids: set[int]) -> dict[int, TaskVersion]:
    """The versions with their tasks and projects, by id: one query."""
    return TaskVersion.objects.select_related("task__project").in_bulk(version_ids)


def taken_up(claimed: Sequence[Claimed], specs: Mapping[int, TaskVersion], *, now: datetime) -> list[Active]:
    """The claimed runs as jobs, in their order; those that cannot be executed at all carry how they end.

    `now` is when they were claimed. Call it in the transaction of the claim: a run whose task cannot be read would be
    this worker's for ever, and never begun.
    """
    starts = first_starts(claimed, specs)
    params, failed = fill_in(claimed, specs)
    given = given_to(claimed, specs)
    taken = []
    for run in claimed:
        secrets = given.get(run.id, NOTHING)
        job = _job(run, specs[run.version_id], params[run.id], starts.get(run.id, now), secrets)
        taken.append(Active(job, refusal=failed.get(run.id) or secrets.refusal))
    return taken


def _job(run: Claimed, version: TaskVersion, params: dict[str, Any], first_started_at: datetime, secrets: Given) -> Job:
    return Job(
        run_id=run.id,
        attempt=run.attempt,
        version_id=run.version_id,
        task_name=version.task.name,
        executor=version.executor,
        command=version.command,
        params=params,
        timeout_seconds=float(version.timeout_seconds),
        nominal_at=run.nominal_at,
        retry=policy_of(version),
        first_started_at=first_started_at,
        retry_on_lost=version.retry_on_lost,
        shard_index=run.shard_index or 0,
        shard_total=run.shard_total or 1,
        limits=Limits(
            memory_mb=run.memory_limit_mb or version.memory_limit_mb,
            cpu_seconds=version.cpu_limit_seconds,
            open_files=version.open_files_limit,
        ),
        alone=run.alone,
        secrets=secrets.values,
        masks=secrets.masks,
    )
