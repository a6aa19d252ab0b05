"""To which worker of its pool the runs of a task go: what a task may say. The choice itself is the dispatcher's."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from tasks_app.errors import InvalidInput
from tasks_app.label_expressions import LabelError, parse

MOST_WORKERS = 50
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


NAMED = (Routing.SPECIFIC, Routing.FAILOVER)


def check(*, routing: str, key: str, workers: object, required_labels: str, concurrency_key: str) -> None:
    """Raises InvalidInput at the field that is wrong: `routing_key`, `routing_workers` or `required_labels`.

    What a strategy does not use is kept as it is, so that one may be tried and the other taken up again.
    """
    try:
        parse(required_labels)
    except LabelError as error:
        raise InvalidInput(required_labels=error.message) from error
    if routing == Routing.CONSISTENT_HASH and not key and not concurrency_key:
        raise InvalidInput(routing_key=_t("Give the name of a parameter, or the task a concurrency key."))
    names = _names(workers)
    if routing == Routing.SPECIFIC and len(names) != 1:
        raise InvalidInput(routing_workers=_t("Name one worker."))
    if routing == Routing.FAILOVER and not names:
        raise InvalidInput(routing_workers=_t("Name the workers in the order in which they are tried."))


def _names(workers: object) -> list[str]:
    if not isinstance(workers, list) or not all(isinstance(name, str) for name in workers):
        raise InvalidInput(routing_workers=_t("Give a list of names of workers."))
    if len(workers) > MOST_WORKERS:
        raise InvalidInput(routing_workers=_t("Name at most %(n)d workers.") % {"n": MOST_WORKERS})
    for name in workers:
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise InvalidInput(routing_workers=_t("The name of a worker has 1 to 200 characters, in one line."))
        if workers.count(name) > 1:
            raise InvalidInput(routing_workers=_t("%(name)s is named twice.") % {"name": name})
    return workers
