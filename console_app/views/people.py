"""`/access/users/`, `/access/groups/`: one person or group, made and changed. `/invitation/…`: a first password."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from access_app import invitations, people
from access_app.actors import Actor
from access_app.errors import LastAdministrator
from access_app.models import ApiKey
from access_app.network import client_address
from access_app.roles import Verb, require_everywhere
from console_app.door import action, page
from console_app.errors import put_on, sentence
from console_app.people_forms import GroupForm, InvitationForm, OwnPasswordForm, UserForm
from tasks_app import queries
from tasks_app.errors import InvalidInput, NotFound

KEYS_SHOWN = 50


@page
def user_new(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    require_everywhere(actor, Verb.MANAGE)
    form = UserForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = people.create_user(actor, form.cleaned_data, now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("%(user)s is a user now, without a role anywhere.") % {"user": user})
            return redirect("console:user", pk=user.pk)
    return _user_page(request, form, None)


@page
def user(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    require_everywhere(actor, Verb.MANAGE)
    found = queries.get_visible(people.users_visible_to(actor), pk)
    form = UserForm(request.POST or None, initial=UserForm.values_of(found))
    if request.method == "POST" and form.is_valid():
        changed = {name: form.cleaned_data[name] for name in form.changed_data}
        try:
            people.update_user(actor, found, changed, now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        except LastAdministrator as error:
            form.add_error(None, sentence(error))
        else:
            if found.pk == actor.user.pk and "password" in changed:
                found.refresh_from_db()
                update_session_auth_hash(request, found)
            messages.success(request, _("%(user)s is saved.") % {"user": found})
            return redirect("console:user", pk=pk)
    return _user_page(request, form, found)


@page
def user_invite(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    """The link stands in the answer to the button that made it, and nowhere else."""
    require_everywhere(actor, Verb.MANAGE)
    found = queries.get_visible(people.users_visible_to(actor), pk)
    if request.method != "POST":
        return redirect("console:user", pk=pk)
    link = request.build_absolute_uri(invitations.invite(actor, found, now=timezone.now()))
    return _user_page(request, UserForm(initial=UserForm.values_of(found)), found, link=link)


@page
def group_new(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    require_everywhere(actor, Verb.MANAGE)
    form = GroupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            found = people.create_group(actor, form.values(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("The group %(group)s is made, without a role anywhere.") % {"group": found})
            return redirect("console:group", pk=found.pk)
    return _group_page(request, form, None)


@page
def group(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    require_everywhere(actor, Verb.MANAGE)
    found = queries.get_visible(people.groups_visible_to(actor), pk)
    form = GroupForm(request.POST or None, initial=GroupForm.values_of(found))
    if request.method == "POST" and form.is_valid():
        try:
            people.update_group(actor, found, form.values(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("%(user)s is saved.") % {"user": found})
            return redirect("console:group", pk=pk)
    return _group_page(request, form, found)


@action(back="console:group")
def group_delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    found = queries.get_visible(people.groups_visible_to(actor), pk)
    people.delete_group(actor, found, now=timezone.now())
    messages.success(request, _("The group %(group)s is deleted; its members stay.") % {"group": found})
    return redirect("console:access")


@page
def own_password(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    form = OwnPasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            people.change_own_password(actor, form.cleaned_data["old"], form.cleaned_data["new"], now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            update_session_auth_hash(request, actor.user)
            messages.success(request, _("Your password is changed; sessions elsewhere have ended."))
            return redirect("console:overview")
    return render(request, "console/own_password.html", {"form": form}, status=422 if form.errors else 200)


@never_cache
def invitation(request: HttpRequest, who: str, token: str) -> HttpResponseBase:
    """The one page beside sign-in that nobody needs to be signed in for: the link itself says who comes."""
    try:
        found = invitations.invited(who, token)
    except NotFound:
        return render(request, "console/invitation.html", {"form": None}, status=404)
    form = InvitationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        address = client_address(request)
        try:
            found = invitations.take(who, token, form.cleaned_data["password"], address=address, now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        except NotFound:
            return render(request, "console/invitation.html", {"form": None}, status=404)
        else:
            login(request, found, backend="django.contrib.auth.backends.ModelBackend")
            return redirect("console:overview")
    context = {"form": form, "user_name": found.get_username()}
    response = render(request, "console/invitation.html", context, status=422 if form.errors else 200)
    # The address is a secret: no page that this one leads to may hear of it.
    response["Referrer-Policy"] = "no-referrer"
    return response


def _user_page(request: HttpRequest, form: UserForm, found: User | None, *, link: str = "") -> HttpResponse:
    keys: Any = ApiKey.objects.filter(user=found).order_by("-pk")[:KEYS_SHOWN] if found else ()
    context = {"form": form, "person": found, "link": link, "keys": keys}
    return render(request, "console/user.html", context, status=422 if form.errors else 200)


def _group_page(request: HttpRequest, form: GroupForm, found: Group | None) -> HttpResponse:
    return render(request, "console/group.html", {"form": form, "group": found}, status=422 if form.errors else 200)
