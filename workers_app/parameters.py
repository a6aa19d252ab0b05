"""The parameters of claimed runs with their macros replaced, for a whole batch of claims at once.

Only runs whose parameters hold a macro cost anything: two queries, however many they are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db.models import F, Value
from django.db.models.functions import Coalesce

from tasks_app import executors, macros, secret_names
from tasks_app.errors import InvalidInput
from tasks_app.models import Run, RunDependency, TaskVersion
from tasks_app.moves import Claimed
from tasks_app.states import Reason, RunState
from workers_app.jobs import Result

Params = dict[str, Any]
_SCHEDULES = (
    "schedule",
    "root__schedule",
    "rerun_of__schedule",
    "rerun_of__root__schedule",
    "shard_of__schedule",
    "shard_of__root__schedule",
)


def fill_in(
    claimed: Sequence[Claimed], specs: Mapping[int, TaskVersion]
) -> tuple[dict[int, Params], dict[int, Result]]:
    """By run id: the parameters of every run, those of its version overlaid with its own, with macros replaced; and
    the result of each run that fails because they cannot be. `specs` holds the version of each with task and project.
    """
    params = {run.id: {**specs[run.version_id].params, **run.params} for run in claimed}
    wanted = [run for run in claimed if params[run.id] and "{{" in json.dumps(params[run.id])]
    failed: dict[int, Result] = {}
    if not wanted:
        return params, failed
    names = _names(wanted, specs, params)
    for run in wanted:
        try:
            filled = macros.expand(params[run.id], names[run.id])
            _check_references(params[run.id], filled)
            executors.check_params(specs[run.version_id].executor, filled, most_bytes=executors.MAX_EXPANDED_BYTES)
        except macros.MacroError as error:
            failed[run.id] = _failure(Reason.INVALID_MACRO, error.message)
        except InvalidInput as error:
            detail = f"With its macros replaced they do not fit: {' '.join(error.errors['params'])}"
            failed[run.id] = _failure(Reason.INVALID_PARAMETERS, detail)
        else:
            params[run.id] = filled
    return params, failed


def _check_references(before: Params, after: Params) -> None:
    """What comes from elsewhere must not choose which secrets are put where. Raises MacroError."""
    if secret_names.count(after) != secret_names.count(before):
        raise macros.MacroError("", "A macro would bring in a reference to a secret; write it where the macro stands.")


def _failure(reason: Reason, problem: str) -> Result:
    # Upstream outputs and parameters stay as they are: another attempt would end in the same way.
    return Result(RunState.FAILED, reason, f"Its parameters cannot be filled in. {problem}", retryable=False)


def _names(
    wanted: Sequence[Claimed], specs: Mapping[int, TaskVersion], params: Mapping[int, Params]
) -> dict[int, dict[str, Any]]:
    ids = [run.id for run in wanted]
    zones = [F(f"{path}__time_zone") for path in _SCHEDULES]
    rows = Run.objects.filter(pk__in=ids).annotate(
        zone=Coalesce(*zones, Value(settings.SCHEDULER_TIME_ZONE)), asked_at=Coalesce("nominal_at", "created_at")
    )
    facts = {pk: rest for pk, *rest in rows.values_list("pk", "run_type", "asked_at", "zone")}
    outputs = _outputs(ids, {run.id: specs[run.version_id].task.project_id for run in wanted})
    names = {}
    for run in wanted:
        run_type, asked_at, zone = facts[run.id]
        task = specs[run.version_id].task
        names[run.id] = macros.names_of_run(
            run_id=run.id,
            attempt=run.attempt,
            run_type=run_type,
            task=task.name,
            project=task.project.name,
            nominal_at=asked_at,
            zone=zone,
            params=params[run.id],
            upstream=outputs[run.id],
            shard=(run.shard_index, run.shard_total),
        )
    return names


def _outputs(ids: Sequence[int], projects: Mapping[int, int]) -> dict[int, dict[str, Any]]:
    """{run: {name of the upstream task: output of its run}}; of two tasks of one name, that of the own project, of
    several parts of a run that of the first."""
    columns = ("downstream_id", "upstream__task__name", "upstream__task__project_id", "upstream__output")
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    edges = RunDependency.objects.filter(downstream__in=ids, upstream__shard_of=None)
    for run, name, project, output in edges.order_by("upstream_id").values_list(*columns):
        if name not in found[run] or project == projects[run]:
            found[run][name] = output
    return found
