"""Who may do what: the role x verb table and the one check that every service makes.

Grants are object permissions on projects, kept by django-guardian. A superuser holds the admin role everywhere; an API
key can do at most what its own role allows, and of that what its scopes name, whatever its user may do.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from access_app.errors import NotFound, PermissionRefused

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, Group

    from access_app.actors import Actor


class Role(models.TextChoices):
    """Roles in ascending order; each may do all that the one before it may."""

    VIEWER = "viewer", _("viewer")
    OPERATOR = "operator", _("operator")
    EDITOR = "editor", _("editor")
    ADMIN = "admin", _("admin")


class Verb(StrEnum):
    """What can be done to the objects of a project."""

    VIEW = "view"
    SEE_OUTPUT = "see_output"
    SEE_PARAMETERS = "see_parameters"
    RUN = "run"
    CANCEL = "cancel"
    PAUSE = "pause"
    EDIT = "edit"
    MANAGE = "manage"
    MANAGE_SECRETS = "manage_secrets"
    MANAGE_WORKERS = "manage_workers"


ROLE_ORDER: tuple[str, ...] = tuple(Role.values)
LEAST_ROLE: dict[Verb, Role] = {
    Verb.VIEW: Role.VIEWER,
    Verb.SEE_OUTPUT: Role.VIEWER,
    # Commands and parameters too: addresses, accounts and often more than that stand in them.
    Verb.SEE_PARAMETERS: Role.OPERATOR,
    Verb.RUN: Role.OPERATOR,
    Verb.CANCEL: Role.OPERATOR,
    Verb.PAUSE: Role.OPERATOR,
    Verb.EDIT: Role.EDITOR,
    Verb.MANAGE: Role.ADMIN,
    Verb.MANAGE_SECRETS: Role.ADMIN,
    Verb.MANAGE_WORKERS: Role.ADMIN,
}


def allows(role: str | None, verb: Verb) -> bool:
    """Whether the role (or None) may do the verb."""
    return role is not None and ROLE_ORDER.index(role) >= ROLE_ORDER.index(LEAST_ROLE[verb])


def in_scope(actor: Actor, verb: Verb) -> bool:
    """Whether the scopes of the key that asks, where it has any, let it do the verb. Every key may look."""
    return actor.scopes is None or verb == Verb.VIEW or verb in actor.scopes


def role_permission(role: str) -> str:
    """The guardian permission codename, on Project, that stands for a role."""
    return f"role_{role}"


def role_in(actor: Actor, project_id: int) -> str | None:
    """The actor's role in a project, or None. One query at most per project and actor, then remembered."""
    if actor.is_system:
        return Role.ADMIN
    if project_id not in actor.roles:
        actor.roles[project_id] = _user_role(actor.user, project_id)
    return _capped(actor.roles[project_id], actor.role_cap)


def holds(actor: Actor, verb: Verb, project_id: int) -> bool:
    """Whether the actor may do the verb in the project; for rows of many projects one query for all of them."""
    ids = project_ids_with(actor, verb)
    return ids is None or project_id in ids


def require(actor: Actor, verb: Verb, project_id: int) -> None:
    """Raise NotFound when the actor may not even see the project, PermissionRefused when it lacks just this verb.

    Foreign objects answer as if they did not exist, so that names and counts do not leak.
    """
    role = role_in(actor, project_id)
    if not allows(role, Verb.VIEW):
        raise NotFound
    if not allows(role, verb):
        raise PermissionRefused(verb=str(verb), least_role=str(LEAST_ROLE[verb]))
    _require_scope(actor, verb)


def require_everywhere(actor: Actor, verb: Verb) -> None:
    """Raise PermissionRefused unless the actor holds the verb on the whole installation (workers, pools, users)."""
    role = Role.ADMIN if actor.is_system or actor.user.is_superuser else None
    if not allows(_capped(role, actor.role_cap), verb):
        raise PermissionRefused(verb=str(verb), least_role=str(Role.ADMIN))
    _require_scope(actor, verb)


def _require_scope(actor: Actor, verb: Verb) -> None:
    if not in_scope(actor, verb):
        text = _("The scopes of the key do not include “%(verb)s”; use a key that has it.")
        raise PermissionRefused(text % {"verb": str(verb)}, verb=str(verb))


def require_membership(actor: Actor) -> None:
    """Raise PermissionRefused unless the actor has a role in some project (for reads of what projects share)."""
    if visible_project_ids(actor) == []:
        raise PermissionRefused(verb=str(Verb.VIEW), least_role=str(Role.VIEWER))


def visible_project_ids(actor: Actor) -> list[int] | None:
    """Ids of the projects that the actor may see, or None for all of them."""
    return project_ids_with(actor, Verb.VIEW)


def project_ids_with(actor: Actor, verb: Verb) -> list[int] | None:
    """Ids of the projects in which the actor holds the verb, or None for all: one query at most, then remembered."""
    if verb not in actor.projects:
        actor.projects[verb] = _project_ids_with(actor, verb)
    return actor.projects[verb]


def _project_ids_with(actor: Actor, verb: Verb) -> list[int] | None:
    if actor.is_system:
        return None
    if not allows(_capped(Role.ADMIN, actor.role_cap), verb) or not in_scope(actor, verb):
        return []
    if actor.user.is_superuser:
        return None
    from guardian.shortcuts import get_objects_for_user

    permissions = [f"tasks_app.{role_permission(role)}" for role in ROLE_ORDER if allows(role, verb)]
    found: Any = get_objects_for_user(actor.user, permissions, any_perm=True, accept_global_perms=False)
    return list(found.values_list("pk", flat=True))


def grant(holder: AbstractBaseUser | Group, role: str, project: models.Model) -> None:
    """Give the user or group exactly this role in the project, in place of any other."""
    from guardian.shortcuts import assign_perm, remove_perm

    for other in ROLE_ORDER:
        if other != role:
            remove_perm(role_permission(other), holder, project)
    assign_perm(role_permission(role), holder, project)


def own_role(holder: AbstractBaseUser | Group, project: models.Model) -> str | None:
    """The role that was granted to this very user or group, whatever a user has by groups; None where none was."""
    from django.contrib.auth.models import Group
    from guardian.shortcuts import get_perms, get_user_perms

    held = set((get_perms if isinstance(holder, Group) else get_user_perms)(holder, project))
    return next((role for role in reversed(ROLE_ORDER) if role_permission(role) in held), None)


def revoke(holder: AbstractBaseUser | Group, project: models.Model) -> str | None:
    """Take every role that the user or group was granted in the project; the highest of them, or None."""
    from guardian.shortcuts import remove_perm

    role = own_role(holder, project)
    for each in ROLE_ORDER if role is not None else ():
        remove_perm(role_permission(each), holder, project)
    return role


def _user_role(user: Any, project_id: int) -> str | None:
    if user.is_superuser:
        return Role.ADMIN
    from django.apps import apps
    from guardian.shortcuts import get_perms

    project = apps.get_model("tasks_app", "Project")(pk=project_id)
    held = set(get_perms(user, project))
    return next((role for role in reversed(ROLE_ORDER) if role_permission(role) in held), None)


def _capped(role: str | None, cap: str | None) -> str | None:
    if role is None or cap is None:
        return role
    return min(role, cap, key=ROLE_ORDER.index)
