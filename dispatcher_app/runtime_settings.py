"""What can be tuned of dispatchers while everything runs."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from access_app.runtime import Setting, declare
from workers_app.messages import MAX_PAIRS

SWEEP_SECONDS: Setting[float] = declare(
    Setting(
        name="sweep_seconds",
        kind=float,
        default=lambda: settings.SCHEDULER_SWEEP_SECONDS,
        least=1,
        most=300,
        label=_("Age of the sweep"),
        help=_("A queued run that nobody has claimed for so many seconds is announced again."),
    )
)
PACK_SIZE: Setting[int] = declare(
    Setting(
        name="pack_size",
        kind=int,
        default=lambda: 100,
        least=1,
        most=MAX_PAIRS,
        label=_("Runs in a message"),
        help=_("How many runs of one callable a message announces at most; in a burst, more cost less each."),
    )
)
