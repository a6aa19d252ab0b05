"""What can be tuned of workers and their broker while everything runs."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from access_app.runtime import Setting, declare
from workers_app import brokers


def _refusal(url: str) -> str | None:
    return brokers.refusal_of(url)


BROKER_URL: Setting[str] = declare(
    Setting(
        name="broker_url",
        kind=str,
        default=lambda: settings.SCHEDULER_BROKER_URL,
        fault=brokers.fault_beyond_one_process,
        refusal=_refusal,
        show=brokers.masked,
        label=_("Broker"),
        help=_(
            "Where dispatchers publish and workers listen, such as amqp://user:password@host:5672// or "
            "redis-stream://host:6379/0. Both follow at once; what lies on the broker before is carried over."
        ),
    )
)
DRAIN_SECONDS: Setting[float] = declare(
    Setting(
        name="drain_seconds",
        kind=float,
        default=lambda: settings.SCHEDULER_DRAIN_SECONDS,
        least=0.1,
        most=24 * 3600,
        label=_("Time to drain"),
        help=_("Seconds that a stopping worker lets its runs go on before it ends them and hands them back."),
    )
)
KILL_GRACE_SECONDS: Setting[float] = declare(
    Setting(
        name="kill_grace_seconds",
        kind=float,
        default=lambda: settings.SCHEDULER_KILL_GRACE_SECONDS,
        least=0.1,
        most=600,
        label=_("Grace of a cancel"),
        help=_("Seconds from TERM to KILL for the processes of a cancelled or timed out run."),
    )
)
AGENT_POLL_SECONDS: Setting[float] = declare(
    Setting(
        name="agent_poll_seconds",
        kind=float,
        default=lambda: settings.SCHEDULER_AGENT_POLL_SECONDS,
        least=0.1,
        most=60,
        label=_("Pace of agents"),
        help=_("Seconds between two questions of an agent for runs; more where there are more than fifty agents."),
    )
)
