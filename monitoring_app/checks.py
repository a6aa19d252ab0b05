"""Django system checks: combinations of settings that cannot work, or not well, named before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register
from django.utils.translation import gettext as _

from workers_app import brokers
from workers_app.messages import QUEUE_TYPES

TLS_FILES = ("SCHEDULER_BROKER_CA_PATH", "SCHEDULER_BROKER_CERTIFICATE_PATH", "SCHEDULER_BROKER_KEY_PATH")


@register("scheduler")
def clockwork(**options: Any) -> list[CheckMessage]:  # noqa: ARG001  (Django's signature)
    """A lease must outlive one missed beat, or healthy workers are taken for dead."""
    if settings.SCHEDULER_LEASE_SECONDS >= 2 * settings.SCHEDULER_HEARTBEAT_SECONDS:
        return []
    hint = _("Set SCHEDULER_LEASE_SECONDS to three times SCHEDULER_HEARTBEAT_SECONDS.")
    return [checks.Error(_("The lease of a worker is shorter than two of its beats."), hint=hint, id="scheduler.E001")]


@register("scheduler")
def time_zone(**options: Any) -> list[CheckMessage]:  # noqa: ARG001
    """The zone that new schedules start with must exist."""
    from tasks_app import cron

    try:
        cron.zone(settings.SCHEDULER_TIME_ZONE)
    except cron.CronError as error:
        hint = _("Set SCHEDULER_TIME_ZONE to an IANA name.")
        return [checks.Error(str(error), hint=hint, id="scheduler.E002")]
    return []


@register("scheduler")
def broker(**options: Any) -> list[CheckMessage]:  # noqa: ARG001
    """The broker must be one that we know; in production it must reach beyond one process."""
    scheme = brokers.scheme_of(settings.SCHEDULER_BROKER_URL)
    if (fault := brokers.fault_of(settings.SCHEDULER_BROKER_URL)) is not None:
        hint = _("Correct CELERY_BROKER_URL, or leave it empty for the in-process broker.")
        return [checks.Error(f"CELERY_BROKER_URL: {fault}", hint=hint, id="scheduler.E003")]
    if settings.PRODUCTION and scheme == brokers.MEMORY:
        hint = _("Set CELERY_BROKER_URL to a RabbitMQ or Redis.")
        text = _("The in-process broker reaches workers of the same process alone.")
        return [checks.Warning(text, hint=hint, id="scheduler.W001")]
    return []


@register("scheduler")
def queue_type(**options: Any) -> list[CheckMessage]:  # noqa: ARG001
    """RabbitMQ has queues of two types that keep their messages."""
    if settings.SCHEDULER_RABBITMQ_QUEUE_TYPE in QUEUE_TYPES:
        return []
    hint = _("Set SCHEDULER_RABBITMQ_QUEUE_TYPE to one of: %(types)s.") % {"types": ", ".join(QUEUE_TYPES)}
    text = _("RabbitMQ has no queues of the type %(type)r that we could use.")
    given = {"type": settings.SCHEDULER_RABBITMQ_QUEUE_TYPE}
    return [checks.Error(text % given, hint=hint, id="scheduler.E006")]


@register("scheduler")
def broker_tls(**options: Any) -> list[CheckMessage]:  # noqa: ARG001
    """The files for TLS must be there, and a certificate comes with its key."""
    found: list[CheckMessage] = []
    paths = {name: getattr(settings, name) for name in TLS_FILES}
    hint = _("Give the path of a PEM file that this process may read.")
    text = _("%(name)s names the file %(path)s, which is not there.")
    for name, path in paths.items():
        if path and not Path(path).is_file():
            found.append(checks.Error(text % {"name": name, "path": path}, hint=hint, id="scheduler.E007"))
    if paths["SCHEDULER_BROKER_KEY_PATH"] and not paths["SCHEDULER_BROKER_CERTIFICATE_PATH"]:
        hint = _("Set SCHEDULER_BROKER_CERTIFICATE_PATH too, or neither.")
        found.append(
            checks.Error(_("There is a key for the broker but no certificate."), hint=hint, id="scheduler.E008")
        )
    return found


@register("scheduler")
def callables(**options: Any) -> list[CheckMessage]:  # noqa: ARG001
    """The modules whose callables may run must be there to import."""
    from importlib.util import find_spec

    missing = [module for module in settings.SCHEDULER_CALLABLES if not _is_there(find_spec, module)]
    hint = _("Correct SCHEDULER_CALLABLES, or install the module where workers run.")
    text = _("The module %(module)s of SCHEDULER_CALLABLES cannot be found.")
    return [checks.Error(text % {"module": module}, hint=hint, id="scheduler.E005") for module in missing]


def _is_there(find_spec: Callable[[str], object], module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
