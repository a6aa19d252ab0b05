"""Projects: create."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.roles import Verb, require_everywhere
from tasks_app.errors import InvalidInput
from tasks_app.models import Project


def create(actor: Actor, *, name: str, description: str = "", now: datetime) -> Project:
    """Create a project. Administrators of the installation only. Raises InvalidInput at the field that is wrong."""
    require_everywhere(actor, Verb.MANAGE)
    project = Project(name=name, description=description)
    try:
        project.clean_fields()
    except ValidationError as error:
        raise InvalidInput(**{field: list(texts) for field, texts in error.message_dict.items()}) from error
    with transaction.atomic():
        try:
            with transaction.atomic():
                project.save()
        except IntegrityError as error:
            raise InvalidInput(name=_("A project of this name exists already.")) from error
        audit.append(actor, "create", project, now=now, after={"name": name, "description": description})
    return project
