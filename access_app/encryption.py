"""Values that the database keeps but may not know: encrypted with a key derived from the secret key.

What an earlier secret key has encrypted can be read while that key is among the fallbacks.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class Unreadable(ValueError):
    """The value was encrypted with a key that is not known here."""


def encrypt(text: str) -> str:
    return str(_fernet().encrypt(text.encode()).decode())


def decrypt(token: str) -> str:
    """The text again. Raises Unreadable."""
    from cryptography.fernet import InvalidToken

    try:
        return str(_fernet().decrypt(token).decode())
    except (InvalidToken, ValueError, TypeError) as error:
        raise Unreadable("encrypted with a key that is not known here") from error


def _fernet() -> MultiFernet:
    # Late: few processes have anything to decrypt, and the library takes its time to load.
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(_key(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(f"scheduler.stored.value:{secret}".encode()).digest())
