"""To which worker of its pool the runs of a task go: what a task may say. The choice itself is the dispatcher's."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from tasks_app.errors import InvalidInput
from tasks_app.label_expressions import LabelError, parse

MOST_WORKERS = 50
MOST_SHARDS = 1000
LONGEST_NAME = 200


class Routing(models.TextChoices):
    """How a run finds its worker. Of those that match the required labels, where there are any."""

    ANY = "any", _("any worker that is free")
    LEAST_LOADED = "least_loaded", _("the least loaded worker")
    ROUND_ROBIN = "round_robin", _("workers by turns")
    RANDOM = "random", _("a worker by chance")
    CONSISTENT_HASH = "consistent_hash", _("one worker for each key")
    SPECIFIC = "specific", _("a named worker")
    FAILOVER = "failover", _("the first of a list that is online")
    BROADCAST = "broadcast", _("every worker, a run each")
    SHARDS = "shards", _("several runs, spread over the workers")


# One run becomes several when it is released.
FANNING_OUT = (Routing.BROADCAST, Routing.SHARDS)


def check(
    *,
    routing: str,
    key: str,
    workers: object,
    shards: int | None,
    required_labels: str,
    concurrency_key: str,
    overlap: str,
) -> None:
    """Raises InvalidInput at the field that is wrong.

    What a strategy does not use is kept as it is, so that one may be tried and the other taken up again.
    """
    try:
        parse(required_labels)
    except LabelError as error:
        raise InvalidInput(required_labels=error.message) from error
    if routing == Routing.CONSISTENT_HASH and not key and not concurrency_key:
        raise InvalidInput(routing_key=gettext("Give the name of a parameter, or the task a concurrency key."))
    names = _names(workers)
    if routing == Routing.SPECIFIC and len(names) != 1:
        raise InvalidInput(routing_workers=gettext("Name one worker."))
    if routing == Routing.FAILOVER and not names:
        raise InvalidInput(routing_workers=gettext("Name the workers in the order in which they are tried."))
    if shards is not None and not 1 <= shards <= MOST_SHARDS:
        raise InvalidInput(shards=gettext("Give a number of runs from 1 to %(n)d.") % {"n": MOST_SHARDS})
    if routing == Routing.SHARDS and shards is None:
        raise InvalidInput(shards=gettext("Say into how many runs it is split."))
    if routing in FANNING_OUT and overlap != "allow":
        text = gettext("One run becomes several that run at once: this needs the overlap policy allow.")
        raise InvalidInput(overlap=text)


def _names(workers: object) -> list[str]:
    if not isinstance(workers, list) or not all(isinstance(name, str) for name in workers):
        raise InvalidInput(routing_workers=gettext("Give a list of names of workers."))
    if len(workers) > MOST_WORKERS:
        raise InvalidInput(routing_workers=gettext("Name at most %(n)d workers.") % {"n": MOST_WORKERS})
    for name in workers:
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidInput(routing_workers=gettext("The name of a worker has 1 to 200 characters, in one line."))
        if workers.count(name) > 1:
            raise InvalidInput(routing_workers=gettext("%(name)s is named twice.") % {"name": name})
    return workers
