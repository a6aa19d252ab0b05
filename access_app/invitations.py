"""Invitations: a link with which one person sets a password once, made by an administrator of the installation."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import transaction
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor, user_actor
from access_app.errors import NotFound, WrongState
from access_app.people import save_password
from access_app.roles import Verb, require_everywhere


class _Tokens(PasswordResetTokenGenerator):
    """Good until it is taken, the person signs in, or PASSWORD_RESET_TIMEOUT is over."""

    key_salt = "access_app.invitations"


_tokens = _Tokens()


def invite(actor: Actor, user: User, *, now: datetime) -> str:
    """The path of a link with which the user sets a password, once. Links made earlier stay good until one is taken.

    Raises PermissionRefused for all but administrators of the installation, WrongState for a user who is not active.
    """
    require_everywhere(actor, Verb.MANAGE)
    if not user.is_active:
        raise WrongState(_("%(user)s is not active; let them in again first.") % {"user": user.get_username()})
    audit.append(actor, "invite", user, now=now)
    who = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("console:invitation", args=[who, _tokens.make_token(user)])


def invited(who: str, token: str) -> User:
    """The user whom the link is for. Raises NotFound where it is not good, or not any more."""
    try:
        user = User.objects.filter(pk=int(urlsafe_base64_decode(who)), is_active=True).first()
    except (ValueError, OverflowError):
        user = None
    if user is None or not _tokens.check_token(user, token):
        raise NotFound
    return user


def take(who: str, token: str, password: str, *, address: str | None, now: datetime) -> User:
    """Set the password of the user whom the link is for. Raises NotFound, or InvalidInput at `password`."""
    with transaction.atomic():
        # Locked, then looked at again: of two who take one link at once, the second finds it taken.
        User.objects.select_for_update(no_key=True).filter(pk=invited(who, token).pk).values_list("pk").first()
        user = invited(who, token)
        save_password(user, password)
        audit.append(user_actor(user, address=address), "accept", user, now=now, after={"password": "changed"})
    return user
