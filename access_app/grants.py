"""Who has which role where: the grants of users and groups, read in two queries for any number of projects."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps
from django.contrib.auth.models import AbstractBaseUser, Group
from django.db import transaction
from django.db.models import Model
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.errors import InvalidInput, NotFound, PermissionRefused, WrongState
from access_app.roles import ROLE_ORDER, Verb, allows, grant, require, revoke, role_in, role_permission

Holder = AbstractBaseUser | Group


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that a user or group was given in a project."""

    holder: Any
    role: str
    project_id: int

    @property
    def is_group(self) -> bool:
        return isinstance(self.holder, Group)

    @property
    def name(self) -> str:
        return str(self.holder)


def grant_role(actor: Actor, holder: Holder, role: str, project: Model, *, now: datetime) -> None:
    """Give the user or group exactly this role in the project.

    Raises NotFound or PermissionRefused for the project and for a role above one's own there, or InvalidInput.
    """
    require(actor, Verb.MANAGE, project.pk)
    if role not in ROLE_ORDER:
        raise InvalidInput(role=_("Choose one of: %(roles)s.") % {"roles": ", ".join(ROLE_ORDER)})
    own = role_in(actor, project.pk)
    if own is None or ROLE_ORDER.index(role) > ROLE_ORDER.index(own):
        raise PermissionRefused(_("Nobody gives a higher role than their own."), least_role=role)
    with transaction.atomic():
        _lock(project)
        grant(holder, role, project)
        audit.append(actor, "grant", project, now=now, after={**_named(holder), "role": role})


def revoke_role(actor: Actor, holder: Holder, project: Model, *, now: datetime) -> str:
    """Take the role that the user or group was given in the project, and return which that was.

    Raises NotFound or PermissionRefused for the project, WrongState when there is none; a user may still have one by a
    group.
    """
    require(actor, Verb.MANAGE, project.pk)
    with transaction.atomic():
        _lock(project)
        role = revoke(holder, project)
        if role is None:
            raise WrongState(_("%(user)s has no role in this project.") % {"user": str(holder)})
        audit.append(actor, "revoke", project, now=now, before={**_named(holder), "role": role})
    return role


def grants(project_ids: Collection[int] | None = None, *, holders: Iterable[Any] | None = None) -> list[Grant]:
    """The grants in these projects (None: in all) to these users and groups (None: to all), by project and name."""
    found: dict[tuple[str, Any, int], Grant] = {}
    wanted = None if holders is None else list(holders)
    for model, holder in (("UserObjectPermission", "user"), ("GroupObjectPermission", "group")):
        rows = apps.get_model("guardian", model)._default_manager.filter(
            content_type__app_label="tasks_app",
            content_type__model="project",
            permission__codename__in=[role_permission(role) for role in ROLE_ORDER],
        )
        if project_ids is not None:
            rows = rows.filter(object_pk__in=[str(pk) for pk in project_ids])
        if wanted is not None:
            of_kind = [one.pk for one in wanted if isinstance(one, Group) == (holder == "group")]
            rows = rows.filter(**{f"{holder}__in": of_kind})
        for row in rows.select_related(holder, "permission"):
            one = Grant(getattr(row, holder), row.permission.codename.removeprefix("role_"), int(row.object_pk))
            key = (holder, one.holder.pk, one.project_id)
            if key not in found or ROLE_ORDER.index(one.role) > ROLE_ORDER.index(found[key].role):
                found[key] = one
    return sorted(found.values(), key=lambda one: (one.project_id, one.is_group, one.name))


def grants_visible_to(actor: Actor, project: Model) -> list[Grant]:
    """Who has which role in the project, for everybody who has one there. Raises NotFound."""
    if not allows(role_in(actor, project.pk), Verb.VIEW):
        raise NotFound
    return grants([project.pk])


def _lock(project: Model) -> None:
    """Two who give one holder different roles at once would leave both."""
    list(type(project)._default_manager.filter(pk=project.pk).select_for_update(no_key=True).values_list("pk"))


def _named(holder: Any) -> dict[str, str]:
    return {"group" if isinstance(holder, Group) else "user": str(holder)}
