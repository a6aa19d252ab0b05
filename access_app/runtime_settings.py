"""What can be tuned of access while everything runs: how often somebody may ask, and try to sign in."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from access_app.runtime import Setting, declare

MOST = 10_000_000
REQUESTS: Setting[int] = declare(
    Setting(
        name="requests_per_minute",
        kind=int,
        default=lambda: settings.SCHEDULER_REQUESTS_PER_MINUTE,
        least=0,
        most=MOST,
        label=_("Requests a minute"),
        help=_("How many API requests each key, and each user without one, may make in a minute. 0: no limit."),
    )
)
COSTLY_REQUESTS: Setting[int] = declare(
    Setting(
        name="costly_requests_per_minute",
        kind=int,
        default=lambda: settings.SCHEDULER_REQUESTS_PER_MINUTE // 10,
        least=0,
        most=MOST,
        label=_("Costly requests a minute"),
        help=_("The same for batches and the API document, which cost more than one. 0: no limit."),
    )
)
SIGN_INS: Setting[int] = declare(
    Setting(
        name="sign_ins_per_minute",
        kind=int,
        default=lambda: 10,
        least=1,
        most=MOST,
        label=_("Sign-ins a minute"),
        help=_(
            "How often the same user may try to sign in from the same address; from one address ten times as often."
        ),
    )
)
