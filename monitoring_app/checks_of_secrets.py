"""System checks of the keys that stored values are encrypted with."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register
from django.utils.translation import gettext as _

LEAST_LENGTH = 32


@register("scheduler")
def encryption_keys(**options: Any) -> list[CheckMessage]:  # noqa: ARG001  (Django's signature)
    """In production values have keys of their own, and no key may be one that can be guessed."""
    keys = settings.SCHEDULER_ENCRYPTION_KEYS
    hint = _("Give random keys, the newest first: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'")
    if not keys and settings.PRODUCTION:
        text = _("SCHEDULER_ENCRYPTION_KEYS is empty: secrets would be encrypted with the key that signs sessions.")
        return [checks.Error(text, hint=hint, id="scheduler.E020")]
    if any(len(key) < LEAST_LENGTH or len(set(key)) < LEAST_LENGTH // 4 for key in keys):
        text = _("A key of SCHEDULER_ENCRYPTION_KEYS has fewer than %(n)d characters, or few different ones.")
        return [checks.Error(text % {"n": LEAST_LENGTH}, hint=hint, id="scheduler.E021")]
    if len(set(keys)) < len(keys):
        return [checks.Error(_("SCHEDULER_ENCRYPTION_KEYS names a key twice."), hint=hint, id="scheduler.E022")]
    return []
