"""Which errors say that the database did not answer, where trying again may help. The rule of every door and loop."""

from __future__ import annotations

from django.db import InterfaceError, OperationalError

# What ended the connection or refuses for a while, although its class says otherwise: a transaction that was idle, or
# open, for longer than the server lets it (we stood still), and a replica before it takes over.
_OUTAGES = frozenset({"25P03", "25P04", "25006"})
# What is too large or too deep for PostgreSQL will be so next time; its class says otherwise too.
_TOO_MUCH = "54"


def is_outage(error: BaseException) -> bool:
    """Whether this error of Django's means that the database is away, busy, or has ended the connection."""
    state = getattr(error.__cause__, "sqlstate", None) or ""
    if isinstance(error, OperationalError | InterfaceError):
        return not state.startswith(_TOO_MUCH)
    return state in _OUTAGES
