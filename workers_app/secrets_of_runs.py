"""The secrets of claimed runs, at the start of their attempts: one query and one decryption of each, however many runs
there are; none where no run has secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import FilteredRelation, Q

from access_app import encryption
from access_app.masking import Masks, masks_of
from access_app.models import Secret
from tasks_app.models import TaskVersion
from tasks_app.moves import Claimed
from tasks_app.states import Reason, RunState
from workers_app.jobs import Result


@dataclass(frozen=True, slots=True)
class Given:
    """What a run gets: values by variable, and the masks that hide them. `missing` is a sentence where it cannot get
    all of them, and so must not begin."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    masks: Masks | None = None
    missing: str = ""

    @property
    def refusal(self) -> Result | None:
        """How a run ends that must not begin: whoever manages the secrets has to do something first."""
        if not self.missing:
            return None
        return Result(RunState.FAILED, Reason.SECRET_UNAVAILABLE, self.missing, retryable=False)


NOTHING = Given()


def given_to(claimed: Sequence[Claimed], specs: Mapping[int, TaskVersion]) -> dict[int, Given]:
    """{run id: what it gets} for the runs whose version names secrets; `specs` holds the versions with their tasks."""
    wanting = {run.version_id: specs[run.version_id] for run in claimed if specs[run.version_id].secrets}
    if not wanting:
        return {}
    found = _found(wanting.values())
    opened: dict[int, str | None] = {}
    by_version = {id: _given(version, found, opened) for id, version in wanting.items()}
    return {run.id: by_version[run.version_id] for run in claimed if run.version_id in by_version}


def why_not(version: TaskVersion) -> str:
    """What would keep a run of the version from its secrets now, as a sentence; empty where nothing would."""
    return _given(version, _found([version]), {}).missing if version.secrets else ""


@dataclass(frozen=True, slots=True)
class _Found:
    id: int
    sealed: str
    whole_project: bool
    tasks: set[int | None]


def _found(versions: Iterable[TaskVersion]) -> dict[tuple[int, str], _Found]:
    """By project and name: the secrets, with those of the tasks that each is granted to."""
    versions = list(versions)
    tasks = {version.task_id for version in versions}
    names = {name for version in versions for name in version.secrets.values()}
    rows = Secret.objects.filter(project_id__in={version.task.project_id for version in versions}, name__in=names)
    granted = FilteredRelation("tasks", condition=Q(tasks__in=tasks))
    columns = ("project_id", "name", "pk", "sealed", "whole_project", "granted__pk")
    found: dict[tuple[int, str], _Found] = {}
    for project, name, pk, sealed, whole, task in rows.annotate(granted=granted).values_list(*columns):
        found.setdefault((project, name), _Found(pk, sealed, whole, set())).tasks.add(task)
    return found


def _given(version: TaskVersion, found: Mapping[tuple[int, str], _Found], opened: dict[int, str | None]) -> Given:
    values: dict[str, str] = {}
    for variable, name in version.secrets.items():
        secret = found.get((version.task.project_id, name))
        if secret is None:
            return Given(missing=f"There is no secret {name} in the project (any more).")
        if not secret.whole_project and version.task_id not in secret.tasks:
            return Given(missing=f"The secret {name} is not granted to this task (any more).")
        if secret.id not in opened:
            opened[secret.id] = _opened(secret.sealed)
        value = opened[secret.id]
        if value is None:
            return Given(
                missing=f"The secret {name} cannot be read: it was encrypted with a key that is not known here. Give it"
                " its value again, or its key back to SCHEDULER_ENCRYPTION_KEYS."
            )
        values[variable] = value
    return Given(values, masks_of(values.values()))


def _opened(sealed: str) -> str | None:
    try:
        return encryption.decrypt(sealed)
    except encryption.Unreadable:
        return None
