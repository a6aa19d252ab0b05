"""Actions of the admin pages: one verb of a service for each selected row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from access_app import approvals
from access_app.actors import Actor
from access_app.admin import actor_of
from access_app.admin_forms import asked_text
from access_app.second_person import ApprovalRequired
from tasks_app.errors import SchedulerError

MOST_REFUSALS_SHOWN = 5


def apply_verb(
    request: HttpRequest, rows: QuerySet[Any], verb: Callable[[Actor, Any], Any], done: Callable[[int], str]
) -> None:
    """Do the verb to each row by itself, and tell how many it was done to and why not to the others."""
    count, refused = 0, []
    for row in rows:
        try:
            verb(actor_of(request), row)
            count += 1
        except ApprovalRequired as error:
            refused.append(f"{row}: {asked_text(approvals.ask(error))}")
        except SchedulerError as error:
            refused.append(f"{row}: {error.message}")
    if count:
        messages.success(request, done(count))
    for text in refused[:MOST_REFUSALS_SHOWN]:
        messages.error(request, text)
    if len(refused) > MOST_REFUSALS_SHOWN:
        messages.error(request, _("And %(n)d more were refused.") % {"n": len(refused) - MOST_REFUSALS_SHOWN})
