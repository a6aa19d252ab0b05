"""What a process that runs no `manage.py` command does before it serves."""

from __future__ import annotations

from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured


def refuse_unsafe_start() -> None:
    """Raise ImproperlyConfigured, naming each of them, where system checks of ours find errors."""
    errors = [message for message in run_checks(tags=["scheduler"]) if message.is_serious()]
    if errors:
        raise ImproperlyConfigured("\n".join(str(error) for error in errors))
