"""Rules of approval: made and taken away. To take one away is held by itself: that needs a second person, too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import ApprovalPolicy, Kind
from access_app.errors import InvalidInput, NotFound
from access_app.roles import Verb, project_ids_with, require, require_everywhere
from access_app.second_person import Place, held

FLAGS = ("runs", "edits", "secrets")
LONGEST_TAG = 50


def rules_visible_to(actor: Actor) -> QuerySet[ApprovalPolicy]:
    """Those of the projects that one sees, and those of a tag everywhere for whoever has a role in some project."""
    rows = ApprovalPolicy.objects.select_related("project")
    visible = project_ids_with(actor, Verb.VIEW)
    if visible is None:
        return rows
    return (rows.filter(project__in=visible) | rows.filter(project=None)) if visible else rows.none()


def create(actor: Actor, project: Any, tag: str, kinds: Mapping[str, bool], *, now: datetime) -> ApprovalPolicy:
    """Ask for a second person in the project (None: everywhere) for what has the tag ("": for all), for these FLAGS.

    Raises PermissionRefused for all but administrators of it, InvalidInput at the field that is wrong.
    """
    _require(actor, None if project is None else project.pk)
    tag = tag.strip()
    if len(tag) > LONGEST_TAG or not tag.isprintable():
        raise InvalidInput(tag=_("Use one word of up to 50 characters."))
    if project is None and not tag:
        raise InvalidInput(project=_("Name a project, a tag, or both."))
    wanted = {name: bool(kinds.get(name)) for name in FLAGS}
    if not any(wanted.values()):
        raise InvalidInput(runs=_("Choose at least one of: manual runs, edits, secrets."))
    if wanted["secrets"] and tag:
        raise InvalidInput(secrets=_("Secrets have no tags: ask for this in a whole project."))
    with transaction.atomic():
        rule = ApprovalPolicy.objects.create(project=project, tag=tag, created_at=now, created_by=actor.name, **wanted)
        audit.append(actor, "create", rule, now=now, after=describe(rule))
    return rule


@held(Kind.RULE, "approval_rules.delete", lambda call: [Place(call["rule"].project_id, (call["rule"].tag,))])
def delete(actor: Actor, rule: ApprovalPolicy, *, now: datetime) -> None:
    """Ask for no second person by this rule any more. Raises PermissionRefused, NotFound."""
    _require(actor, rule.project_id)
    with transaction.atomic():
        found = ApprovalPolicy.objects.select_for_update(of=("self",)).filter(pk=rule.pk).first()
        if found is None:
            raise NotFound
        audit.append(actor, "delete", found, now=now, before=describe(found))
        found.delete()


def describe(rule: ApprovalPolicy) -> dict[str, Any]:
    """The rule as plain values."""
    values: dict[str, Any] = {"project": rule.project.name if rule.project else None, "tag": rule.tag}
    return values | {name: getattr(rule, name) for name in FLAGS}


def _require(actor: Actor, project_id: int | None) -> None:
    if project_id is None:
        require_everywhere(actor, Verb.MANAGE)
    else:
        require(actor, Verb.MANAGE, project_id)
