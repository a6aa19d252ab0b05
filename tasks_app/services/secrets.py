"""Secrets: create, change, delete. Nothing here, and no door, gives a value back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from access_app import audit, encryption
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.models import Secret
from access_app.roles import Verb, require
from access_app.second_person import held
from tasks_app import secret_names
from tasks_app.errors import InvalidInput
from tasks_app.models import Task, TaskVersion
from tasks_app.queries import get_visible
from tasks_app.services import places

MOST_BYTES = 64 * 1024
MOST_TASKS = 1000
COLUMNS = ("description",)
# `value` is text; `tasks` are the tasks that it is granted to, None for all of the project.
FIELDS = ("project", "name", *COLUMNS, "value", "tasks")
VALUE_CHANGED = "changed"


@held(Kind.SECRET, "secrets.create", places.of_project_fields)
def create(actor: Actor, fields: dict[str, Any], *, now: datetime) -> Secret:
    """Create a secret from FIELDS. Raises InvalidInput at the field that is wrong, NotFound or PermissionRefused for
    the project."""
    project = fields["project"]
    require(actor, Verb.MANAGE_SECRETS, project.pk)
    secret = Secret(project=project, name=fields["name"], created_at=now)
    _assign(secret, fields, now)
    _seal(secret, fields["value"])
    with transaction.atomic():
        try:
            with transaction.atomic():
                secret.save(force_insert=True)
        except IntegrityError as error:
            raise InvalidInput(name=_("A secret of this name exists in the project already.")) from error
        _grant(secret, fields.get("tasks"))
        audit.append(actor, "create", secret, now=now, after=describe(secret) | {"value": VALUE_CHANGED})
    return secret


@held(Kind.SECRET, "secrets.update", places.of_secret)
def update(actor: Actor, secret: Secret, fields: dict[str, Any], *, now: datetime) -> Secret:
    """Change description, value or grants; runs that start from now on have the new value.

    Raises InvalidInput at the field that is wrong, NotFound when it was deleted meanwhile; so does `delete`.
    """
    require(actor, Verb.MANAGE_SECRETS, secret.project_id)
    with transaction.atomic():
        secret = get_visible(_locked(), secret.pk)
        before = describe(secret)
        _assign(secret, fields, now)
        columns = [*COLUMNS, "whole_project", "updated_at"]
        if "value" in fields:
            _seal(secret, fields["value"])
            secret.version += 1
            columns += ["sealed", "key_id", "version"]
        secret.save(update_fields=columns)
        if "tasks" in fields:
            _grant(secret, fields["tasks"])
        old, new = audit.changes(before, describe(secret))
        changed = {"value": VALUE_CHANGED} if "value" in fields else {}
        audit.append(actor, "update", secret, now=now, before=old, after=new | changed)
    return secret


@held(Kind.SECRET, "secrets.delete", places.of_secret)
def delete(actor: Actor, secret: Secret, *, now: datetime) -> None:
    """Delete the secret. Runs of tasks that name it fail from now on: see `users_of`."""
    require(actor, Verb.MANAGE_SECRETS, secret.project_id)
    with transaction.atomic():
        secret = get_visible(_locked(), secret.pk)
        audit.append(actor, "delete", secret, now=now, before=describe(secret))
        secret.delete()


def describe(secret: Secret) -> dict[str, Any]:
    """The secret as plain values, without its value."""
    return {
        "name": secret.name,
        "project": secret.project.name,
        "description": secret.description,
        "tasks": task_ids(secret),
        "version": secret.version,
    }


def task_ids(secret: Secret) -> list[int] | None:
    """The tasks that it is granted to; None for all of its project. No query where `tasks` was prefetched."""
    return None if secret.whole_project else sorted(task.pk for task in secret.tasks.all())


def users_of(secret: Secret) -> list[Task]:
    """The tasks whose current version names the secret, by name."""
    rows = Task.objects.filter(project_id=secret.project_id).exclude(version__secrets={}).select_related("version")
    return [task for task in rows.order_by("name") if task.version and secret.name in task.version.secrets.values()]


def check_task(task: Task, version: TaskVersion) -> None:
    """Raises InvalidInput at `secrets` for names that are none or that the task may not use, at `params` for a
    reference to none of them."""
    if (problem := secret_names.problem(version.secrets)) is not None:
        raise InvalidInput(secrets=problem)
    strange = sorted(secret_names.references(version.params) - version.secrets.keys())
    if strange:
        raise InvalidInput(params=_("The task has no secret %(name)s.") % {"name": strange[0][:100]})
    wanted = set(version.secrets.values())
    rows = Secret.objects.filter(project_id=task.project_id, name__in=wanted) if wanted else Secret.objects.none()
    found = {secret.name: secret for secret in rows.prefetch_related("tasks")}
    for name in sorted(wanted):
        if name not in found:
            text = _("There is no secret %(name)s in the project.")
            raise InvalidInput(secrets=text % {"name": name[:100]})
        granted = task_ids(found[name])
        if granted is not None and task.pk not in granted:
            text = _("The secret %(name)s is not granted to this task; an administrator of the project can do that.")
            raise InvalidInput(secrets=text % {"name": name})


def check_run(params: Any) -> None:
    """Raises InvalidInput at `params` for a reference to a secret: where a secret goes is for the task to say."""
    if secret_names.count(params):
        raise InvalidInput(params=_("A reference to a secret belongs into the task, not into parameters of a run."))


def _locked() -> Any:
    return Secret.objects.select_for_update(of=("self",)).select_related("project")


def _assign(secret: Secret, fields: dict[str, Any], now: datetime) -> None:
    for name in COLUMNS:
        if name in fields:
            setattr(secret, name, fields[name])
    if "tasks" in fields:
        _check_tasks(secret, fields["tasks"])
        secret.whole_project = fields["tasks"] is None
    secret.updated_at = now
    for name in ("name", *COLUMNS):
        if "\x00" in getattr(secret, name):
            raise InvalidInput(**{name: _("This must not contain a NUL character.")})
    try:
        secret.clean_fields(exclude=["project", "sealed", "key_id"])
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error
    if (problem := secret_names.problem({secret.name: secret.name})) is not None:
        raise InvalidInput(name=problem)


def _check_tasks(secret: Secret, tasks: Sequence[Task] | None) -> None:
    if tasks is not None and len(tasks) > MOST_TASKS:
        raise InvalidInput(tasks=_("Name at most %(n)d tasks, or none: then the whole project.") % {"n": MOST_TASKS})
    for task in tasks or ():
        if task.project_id != secret.project_id:
            raise InvalidInput(tasks=_("The task %(name)s is in another project.") % {"name": task.name})


def _seal(secret: Secret, value: str) -> None:
    """No message says anything of the value."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInput(value=_("The value must be text that can be written in UTF-8.")) from None
    if not 1 <= size <= MOST_BYTES:
        raise InvalidInput(value=_("A value has 1 byte to %(n)d KiB.") % {"n": MOST_BYTES // 1024})
    if "\x00" in value:
        raise InvalidInput(value=_("This must not contain a NUL character."))
    secret.sealed = encryption.encrypt(value)
    secret.key_id = encryption.key_id_of(secret.sealed)


def _grant(secret: Secret, tasks: Sequence[Task] | None) -> None:
    secret.tasks.set(tasks or [])
