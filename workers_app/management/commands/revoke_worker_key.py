"""`revoke_worker_key KEY`: the next call with the key is refused."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import worker_keys
from access_app.actors import Actor
from access_app.management.command import SchedulerCommand, command_actor
from access_app.models import WorkerKey
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.texts import clipped


class Command(SchedulerCommand):
    help = _("Revoke a key of agents: the next call with it is refused, and what its workers run is given away.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", metavar="KEY", help=_("id, name or first characters of the key"))

    def handle(self, *args: Any, **options: Any) -> None:
        actor = command_actor()
        key = worker_keys.revoke(actor, _find(actor, options["key"]), now=timezone.now())
        self.stdout.write(_("The worker key %(name)s is revoked.") % {"name": key})


def _find(actor: Actor, text: str) -> WorkerKey:
    """Raises NotFound, or InvalidInput where several keys that are valid have the name."""
    keys = worker_keys.keys_visible_to(actor)
    if text.isdigit() and len(text) < 19 and (key := keys.filter(pk=int(text)).first()) is not None:
        return key
    valid = keys.filter(revoked_at=None)
    found = list(valid.filter(name=text)[:20]) or list(valid.filter(prefix=text[: worker_keys.SHOWN])[:20])
    if not found:
        raise NotFound(_("There is no worker key %(name)s.") % {"name": clipped(text, 20)})
    if len(found) > 1:
        ids = ", ".join(str(key.pk) for key in found)
        raise InvalidInput(key=_("Several worker keys have this name; give the id: %(ids)s") % {"ids": ids})
    return found[0]
