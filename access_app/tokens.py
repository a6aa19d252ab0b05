"""JWT for people's programs: a short access token, and a refresh token that is good for one use.

All tokens that come from one sign-in are a family, and the family has a row: it says which refresh token is the last
one, so that an earlier one that is used again shows that two have it. Then the whole family ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import transaction
from django.utils.crypto import constant_time_compare
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken, TokenError
from rest_framework_simplejwt.tokens import Token

from access_app import audit
from access_app.actors import Actor, system_actor, user_actor
from access_app.errors import SchedulerError
from access_app.models import TokenFamily

ALGORITHM = "HS256"
AUDIENCE = "scheduler-api"
ISSUER = "scheduler"
ACCESS_LIFE = timedelta(minutes=10)
REFRESH_LIFE = timedelta(days=7)
# However often it is refreshed: then the password is asked for again.
FAMILY_LIFE = timedelta(days=30)
LONGEST = 2000


class TokenRefused(SchedulerError):
    """The token is not valid; sign in again."""

    code = "invalid_token"
    status = 401

    def __init__(self, reason: str, user: Any = None) -> None:
        super().__init__()
        self.reason, self.user = reason, user


class TokenExpired(TokenRefused):
    """The token has run out; get a new one with the refresh token, or sign in again."""

    code = "token_expired"


@dataclass(frozen=True, slots=True)
class Pair:
    """What a sign-in or a refresh gives."""

    access: str
    refresh: str


class Keyring:
    """Signs with a key derived from the secret key, and believes what its fallbacks have signed."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._backends = [
            TokenBackend(ALGORITHM, _derived(secret), audience=AUDIENCE, issuer=ISSUER)  # type: ignore[arg-type]  # bytes
            for secret in secrets
        ]

    def encode(self, payload: dict[str, Any]) -> str:
        return self._backends[0].encode(payload)

    def get_leeway(self) -> timedelta:
        return timedelta(0)

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        """The claims. Raises TokenBackendError."""
        refused: TokenBackendError | None = None
        for backend in self._backends:
            try:
                return backend.decode(token, verify)
            except TokenBackendExpiredToken:
                raise
            except TokenBackendError as error:
                # What is wrong under the key that did sign says more than that another one did not.
                if refused is None or isinstance(refused.__cause__, jwt.InvalidSignatureError):
                    refused = error
        assert refused is not None
        raise refused


class SchedulerToken(Token):
    """A token of ours; its `family` names the row of the sign-in that it comes from."""

    def get_token_backend(self) -> Any:
        return _keyring()


class AccessToken(SchedulerToken):
    token_type = "access"  # noqa: S105  (a kind, not a secret)
    lifetime = ACCESS_LIFE


class RefreshToken(SchedulerToken):
    token_type = "refresh"  # noqa: S105
    lifetime = REFRESH_LIFE


def sign_in(user: Any, *, address: str | None, request_id: str, now: datetime) -> Pair:
    """Begin a family for a user who has just shown the password."""
    actor = user_actor(user, address=address, request_id=request_id)
    refresh = RefreshToken()
    family = TokenFamily(
        id=uuid4(),
        user=user,
        current=refresh["jti"],
        password_mark=user.get_session_auth_hash(),
        address=address,
        created_at=now,
        refreshed_at=now,
        expires_at=now + REFRESH_LIFE,
    )
    with transaction.atomic():
        # Those that are over are of no use to anybody; a person has few, so that the table does not grow.
        TokenFamily.objects.filter(user=user, expires_at__lte=now).delete()
        family.save(force_insert=True)
        audit.append(actor, "sign_in", family, now=now)
    return _pair(family, refresh)


def refreshed(text: str, *, now: datetime) -> Pair:
    """A new pair for a refresh token, which is spent by it. Raises TokenRefused; a spent one ends its family."""
    old = _read(RefreshToken, text)
    family = _family(old, now, spent_is_replay=True)
    fresh = RefreshToken()
    expires_at = min(now + REFRESH_LIFE, family.created_at + FAMILY_LIFE)
    # Of two who refresh with one token at the same time one is first; the other one holds a spent token.
    mine = TokenFamily.objects.filter(pk=family.pk, current=old["jti"], revoked_at=None)
    if not mine.update(current=fresh["jti"], refreshed_at=now, expires_at=expires_at):
        end(system_actor("token replay"), family, why=TokenFamily.Why.REPLAYED, now=now)
        raise TokenRefused("replayed", family.user)
    return _pair(family, fresh)


def user_of(text: str, *, now: datetime) -> TokenFamily:
    """The family of an access token, with its user. Raises TokenRefused. One query."""
    return _family(_read(AccessToken, text), now)


def revoke(text: str, *, address: str | None, request_id: str, now: datetime) -> None:
    """End the family of the refresh token: none of its tokens is good for anything from now on.

    Raises TokenRefused for a token that is none of ours. Nothing happens where the family has ended.
    """
    token = _read(RefreshToken, text)
    family = TokenFamily.objects.select_related("user").filter(pk=_family_id(token)).first()
    if family is None:
        raise TokenRefused("unknown")
    actor = user_actor(family.user, address=address, request_id=request_id)
    end(actor, family, why=TokenFamily.Why.REVOKED, now=now)


def end(actor: Actor, family: TokenFamily, *, why: str, now: datetime) -> bool:
    """End a family, once. Returns whether it was this call that did."""
    with transaction.atomic():
        if not TokenFamily.objects.filter(pk=family.pk, revoked_at=None).update(revoked_at=now, revoked_why=why):
            return False
        audit.append(actor, "revoke", family, now=now, after={"why": str(why), "user": family.user.get_username()})
    return True


def _pair(family: TokenFamily, refresh: RefreshToken) -> Pair:
    access = AccessToken()
    for token in (access, refresh):
        token["sub"] = str(family.user.pk)
        token["family"] = family.pk.hex
    # The last one does not outlive the family.
    refresh["exp"] = min(refresh["exp"], int((family.created_at + FAMILY_LIFE).timestamp()))
    return Pair(str(access), str(refresh))


def _read(kind: type[SchedulerToken], text: str) -> SchedulerToken:
    if len(text) > LONGEST or not text.isascii():
        raise TokenRefused("malformed")
    try:
        return kind(text)  # type: ignore[arg-type]  # simplejwt means the text
    except TokenError as error:
        backend_error = error.__cause__
        if isinstance(backend_error, TokenBackendExpiredToken):
            raise TokenExpired("expired") from error
        cause = getattr(backend_error, "__cause__", None)
        raise TokenRefused(_REASONS.get(type(cause), "malformed")) from error


_REASONS: dict[Any, str] = {
    jwt.InvalidSignatureError: "wrong_signature",
    jwt.InvalidAlgorithmError: "wrong_algorithm",
    jwt.InvalidAudienceError: "other_audience",
    jwt.InvalidIssuerError: "other_issuer",
    jwt.MissingRequiredClaimError: "claim_missing",
    # None: the token itself is sound, but of the other kind.
    type(None): "wrong_kind",
}


def _family(token: SchedulerToken, now: datetime, *, spent_is_replay: bool = False) -> TokenFamily:
    family = TokenFamily.objects.select_related("user").filter(pk=_family_id(token)).first()
    if family is None or token.get("sub") != str(family.user_id):
        raise TokenRefused("unknown")
    user = family.user
    if spent_is_replay and family.current != token["jti"]:
        end(system_actor("token replay"), family, why=TokenFamily.Why.REPLAYED, now=now)
        raise TokenRefused("replayed", user)
    if family.revoked_at is not None:
        raise TokenRefused("revoked", user)
    if not user.is_active:
        raise TokenRefused("inactive_user", user)
    if not _same_password(family):
        raise TokenRefused("password_changed", user)
    return family


def _family_id(token: SchedulerToken) -> UUID:
    try:
        return UUID(hex=str(token.get("family")))
    except ValueError as error:
        raise TokenRefused("claim_missing") from error


def _same_password(family: TokenFamily) -> bool:
    user = family.user
    marks = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(family.password_mark, mark) for mark in marks)


def _keyring() -> Keyring:
    return _keyring_of((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=2)
def _keyring_of(secrets: tuple[str, ...]) -> Keyring:
    return Keyring(secrets)


def _derived(secret: str) -> bytes:
    """A key for this purpose alone: one that leaks says nothing of the secret key and what else it signs."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"scheduler.jwt").derive(secret.encode())
