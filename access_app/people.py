"""Users and groups: made, changed and put out by administrators of the installation. Roles: access_app.grants."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor
from access_app.errors import InvalidInput, LastAdministrator, NotFound, PermissionRefused
from access_app.roles import Verb, require_everywhere
from access_app.services import administers

USER_FIELDS = ("username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")
SETS = ("groups", "user_permissions")
LONGEST_PASSWORD = 500
LONGEST_GROUP_NAME = 150


def users_visible_to(actor: Actor) -> QuerySet[User]:
    """All users, for administrators of the installation; for others there are none."""
    users = User.objects.prefetch_related("groups")
    return users if administers(actor) else users.none()


def groups_visible_to(actor: Actor) -> QuerySet[Group]:
    """All groups, for administrators of the installation; for others there are none."""
    groups = Group.objects.prefetch_related("user_set")
    return groups if administers(actor) else groups.none()


def create_user(actor: Actor, fields: dict[str, Any], *, now: datetime) -> User:
    """Create a user from USER_FIELDS, `groups`, `user_permissions` (of the admin pages) and `password`; without one
    nobody signs in as this user until an invitation is taken.

    Raises PermissionRefused for all but administrators of the installation, InvalidInput at the field that is wrong.
    """
    require_everywhere(actor, Verb.MANAGE)
    user = User()
    _assign(user, fields)
    with transaction.atomic():
        _save(user)
        _set_groups(user, fields)
        audit.append(actor, "create", user, now=now, after=_describe(user))
    return user


def update_user(actor: Actor, user: User, fields: dict[str, Any], *, now: datetime) -> User:
    """Change some of what `create_user` takes. Whoever is no longer active is signed out, and their keys are refused.

    Raises as `create_user`, LastAdministrator where nobody would be left to administer, NotFound.
    """
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        # Before the row itself: of two who put each other out, the second waits here and finds itself the last one.
        administrators = _locked_administrators()
        found = User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
        if found is None:
            raise NotFound
        before, was_active = _describe(found), found.is_active
        _assign(found, fields)
        if administrators == [found.pk] and not (found.is_active and found.is_superuser):
            raise LastAdministrator
        _save(found)
        _set_groups(found, fields)
        if was_active and not found.is_active:
            end_sessions(found, now=now)
        old, new = audit.changes(before, _describe(found))
        if fields.get("password"):
            new["password"] = "changed"  # noqa: S105  (a word for the audit trail)
        audit.append(actor, "update", found, now=now, before=old, after=new)
    return found


def change_own_password(actor: Actor, old: str, new: str, *, now: datetime) -> None:
    """Give oneself another password; sessions elsewhere end. Raises InvalidInput at the field that is wrong."""
    user = actor.user
    if actor.is_system or actor.role_cap is not None:
        raise PermissionRefused(_("A password is changed by the person, who is signed in at the console."))
    if not user.check_password(old):
        raise InvalidInput(old=_("This is not your password."))
    _assign_password(user, new, "new")
    with transaction.atomic():
        user.save(update_fields=["password"])
        audit.append(actor, "update", user, now=now, after={"password": "changed"})


def create_group(actor: Actor, fields: dict[str, Any], *, now: datetime) -> Group:
    """Create a group: `name`, `members` (users), `permissions` (of the admin pages). Raises as `create_user`."""
    require_everywhere(actor, Verb.MANAGE)
    group = Group(name=_group_name(fields.get("name", "")))
    with transaction.atomic():
        _save_group(group)
        _set_members(group, fields)
        audit.append(actor, "create", group, now=now, after=_describe_group(group))
    return group


def update_group(actor: Actor, group: Group, fields: dict[str, Any], *, now: datetime) -> Group:
    """Change some of what `create_group` takes. Members have the roles of the group from now on. Raises as it does."""
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        found = _locked_group(group)
        before = _describe_group(found)
        if "name" in fields:
            found.name = _group_name(fields["name"])
            _save_group(found)
        _set_members(found, fields)
        old, new = audit.changes(before, _describe_group(found))
        audit.append(actor, "update", found, now=now, before=old, after=new)
    return found


def delete_group(actor: Actor, group: Group, *, now: datetime) -> None:
    """Remove the group with its roles; its members stay. Raises PermissionRefused, NotFound."""
    require_everywhere(actor, Verb.MANAGE)
    with transaction.atomic():
        found = _locked_group(group)
        audit.append(actor, "delete", found, now=now, before=_describe_group(found))
        found.delete()


def find_named_user(name: str, field: str = "user") -> User:
    """The active user of that name. Raises InvalidInput at the field."""
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise InvalidInput(**{field: _("There is no active user named %(name)s.") % {"name": name[:200]}})
    return user


def find_named_group(name: str, field: str = "group") -> Group:
    """The group of that name. Raises InvalidInput at the field."""
    group = Group.objects.filter(name=name).first()
    if group is None:
        raise InvalidInput(**{field: _("There is no group named %(name)s.") % {"name": name[:200]}})
    return group


def end_sessions(user: User, *, now: datetime) -> None:
    """Delete every session of the user: also one that is active again later must sign in anew."""
    own = str(user.pk)
    for session in Session.objects.filter(expire_date__gt=now).iterator():
        if session.get_decoded().get("_auth_user_id") == own:
            session.delete()


def save_password(user: User, password: str, field: str = "password") -> None:
    """Give the user this password. Raises InvalidInput at the field where it is too weak."""
    _assign_password(user, password, field)
    user.save(update_fields=["password"])


def _assign(user: User, fields: dict[str, Any]) -> None:
    for name in USER_FIELDS:
        if name in fields:
            setattr(user, name, fields[name])
    user.username = get_user_model().normalize_username(user.username)
    if user.is_superuser:
        user.is_staff = True
    if fields.get("password"):
        _assign_password(user, fields["password"], "password")
    elif user._state.adding:
        user.set_unusable_password()
    others = User.objects.exclude(pk=user.pk)
    if "username" in fields and others.filter(username__iexact=user.username).exists():
        raise InvalidInput(username=_("A user of this name exists already."))
    try:
        user.clean_fields(exclude=["password"])
    except ValidationError as error:
        raise InvalidInput(**{name: list(texts) for name, texts in error.message_dict.items()}) from error


def _assign_password(user: User, password: str, field: str) -> None:
    if len(password) > LONGEST_PASSWORD:
        raise InvalidInput(**{field: _("A password has at most %(n)d characters.") % {"n": LONGEST_PASSWORD}})
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(**{field: error.messages}) from error
    user.set_password(password)


def _save(user: User) -> None:
    try:
        with transaction.atomic():
            if user._state.adding:
                user.save(force_insert=True)
            else:
                user.save(update_fields=[*USER_FIELDS, "password"])
    except IntegrityError as error:
        raise InvalidInput(username=_("A user of this name exists already.")) from error


def _set_groups(user: User, fields: dict[str, Any]) -> None:
    for name in SETS:
        if name in fields:
            getattr(user, name).set(fields[name])


def _locked_administrators() -> list[int]:
    rows = User.objects.select_for_update(no_key=True).filter(is_active=True, is_superuser=True)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def _locked_group(group: Group) -> Group:
    found = Group.objects.select_for_update(no_key=True).filter(pk=group.pk).first()
    if found is None:
        raise NotFound
    return found


def _group_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > LONGEST_GROUP_NAME or not name.isprintable():
        raise InvalidInput(name=_("Use one line of up to 150 printable characters."))
    return name


def _save_group(group: Group) -> None:
    try:
        with transaction.atomic():
            if group._state.adding:
                group.save(force_insert=True)
            else:
                group.save(update_fields=["name"])
    except IntegrityError as error:
        raise InvalidInput(name=_("A group of this name exists already.")) from error


def _set_members(group: Group, fields: dict[str, Any]) -> None:
    if "members" in fields:
        group.user_set.set(fields["members"])
    if "permissions" in fields:
        group.permissions.set(fields["permissions"])


def _describe(user: User) -> dict[str, Any]:
    sets = {"groups": _names(user.groups.all()), "permissions": _names(user.user_permissions.all())}
    return {name: getattr(user, name) for name in USER_FIELDS} | sets


def _describe_group(group: Group) -> dict[str, Any]:
    members, permissions = _names(group.user_set.all()), _names(group.permissions.all())
    return {"name": group.name, "members": members, "permissions": permissions}


def _names(rows: Iterable[Any]) -> list[str]:
    return sorted(str(row) for row in rows)
