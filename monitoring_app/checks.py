"""Django system checks: combinations of settings that cannot work, or not well, named before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register
from django.utils.translation import gettext as _

BROKER_SCHEMES = ("memory", "amqp", "amqps", "pyamqp", "redis", "rediss")


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
    scheme = urlsplit(settings.SCHEDULER_BROKER_URL).scheme
    if scheme not in BROKER_SCHEMES:
        hint = _("Use amqp://, amqps://, redis:// or rediss://, or leave it empty.")
        text = _("CELERY_BROKER_URL names the unknown scheme %(scheme)r.") % {"scheme": scheme}
        return [checks.Error(text, hint=hint, id="scheduler.E003")]
    if settings.PRODUCTION and scheme == "memory":
        hint = _("Set CELERY_BROKER_URL to a RabbitMQ or Redis.")
        text = _("The in-process broker reaches workers of the same process alone.")
        return [checks.Warning(text, hint=hint, id="scheduler.W001")]
    return []


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
