"""Values that the database keeps but may not know: encrypted, each with the id of its key beside it.

The first of SCHEDULER_ENCRYPTION_KEYS encrypts; all of them decrypt, and so do the secret key and its fallbacks, which
encrypt as long as there is no key of that kind.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

# Before the token of a value; what was encrypted when there were no ids has none.
_BETWEEN = ":"
ID_LENGTH = 8


class Unreadable(ValueError):
    """The value was encrypted with a key that is not known here."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its id, which tells nothing of it, and whether it is there for values (else it is a secret key)."""

    id: str
    for_values: bool


def encrypt(text: str) -> str:
    """The text encrypted with the newest key: `ID:TOKEN`."""
    ring, fernet = _ring()
    return f"{ring[0].id}{_BETWEEN}{fernet.encrypt(text.encode()).decode()}"


def decrypt(kept: str) -> str:
    """The text again. Raises Unreadable."""
    from cryptography.fernet import InvalidToken

    try:
        return str(_ring()[1].decrypt(_token(kept)).decode())
    except (InvalidToken, ValueError, TypeError, AttributeError) as error:
        raise Unreadable("encrypted with a key that is not known here") from error


def renewed(kept: str) -> str:
    """The same value encrypted with the newest key. Raises Unreadable."""
    return encrypt(decrypt(kept))


def key_id_of(kept: str) -> str:
    """The id of the key that the value was encrypted with; empty where it does not say."""
    id, between, _token_text = str(kept).partition(_BETWEEN)
    return id if between else ""


def known_keys() -> tuple[Key, ...]:
    """The keys known here, the newest first."""
    return _ring()[0]


def newest_key_id() -> str:
    return known_keys()[0].id


def _token(kept: str) -> str:
    return kept.rpartition(_BETWEEN)[2]


def _ring() -> tuple[tuple[Key, ...], MultiFernet]:
    return _ring_of(tuple(settings.SCHEDULER_ENCRYPTION_KEYS), (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=8)
def _ring_of(given: tuple[str, ...], signing: tuple[str, ...]) -> tuple[tuple[Key, ...], MultiFernet]:
    # Late: few processes have anything to decrypt, and the library takes its time to load.
    from cryptography.fernet import Fernet, MultiFernet

    texts = {**dict.fromkeys(given, True), **dict.fromkeys((text for text in signing if text not in given), False)}
    return tuple(Key(_id(text), own) for text, own in texts.items()), MultiFernet([Fernet(_key(t)) for t in texts])


def _key(text: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(f"scheduler.stored.value:{text}".encode()).digest())


def _id(text: str) -> str:
    return hashlib.sha256(b"scheduler.key.id:" + _key(text)).hexdigest()[:ID_LENGTH]
