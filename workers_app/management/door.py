"""What the commands about workers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app.actors import Actor
from access_app.management.command import SchedulerCommand, command_actor, iso
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.texts import clipped
from workers_app.models import HOLDING_A_LEASE, Worker
from workers_app.services import workers_visible_to


def find_worker(actor: Actor, text: str) -> Worker:
    """The worker of that id, or the one of that name that serves. Raises NotFound, or InvalidInput where several do."""
    rows = workers_visible_to(actor)
    try:
        found = list(rows.filter(pk=UUID(text)))
    except ValueError:
        found = list(rows.filter(name=text, state__in=HOLDING_A_LEASE)[:20])
    if not found:
        raise NotFound(_("There is no worker %(name)s.") % {"name": clipped(text, 200)})
    if len(found) > 1:
        ids = ", ".join(str(worker.pk) for worker in found)
        raise InvalidInput(worker=_("Several workers have this name; give the id: %(ids)s") % {"ids": ids})
    return found[0]


def worker_values(worker: Worker) -> dict[str, Any]:
    """The worker as the JSON answers of the commands show it, under the names of the API."""
    return {
        "id": str(worker.pk),
        "name": worker.name,
        "pool": worker.pool.name,
        "state": str(worker.state),
        "lease_until": iso(worker.lease_until),
    }


class WorkerCommand(SchedulerCommand):
    """One verb for one worker."""

    verb: ClassVar[Callable[..., Worker]]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("worker", metavar="WORKER", help=_("name or id of the worker"))
        parser.add_argument("--json", action="store_true", help=_("print one JSON document"))

    def ask(self, text: str) -> Worker:
        actor = command_actor()
        return type(self).verb(actor, find_worker(actor, text), now=timezone.now())

    def tell(self, worker: Worker, text: str, *, as_json: bool) -> None:
        """Print the worker as JSON, or the sentence about it."""
        if as_json:
            self.print_json(worker_values(worker))
        else:
            self.stdout.write(text % {"name": worker.name})
