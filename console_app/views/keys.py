"""`/keys/`: which programs act in my name, and what may they do? With one more key, shown once, and one deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_app import services
from access_app.actors import Actor
from access_app.roles import Role, Verb
from console_app.door import action, page
from console_app.errors import put_on
from console_app.forms import MONO
from tasks_app import queries
from tasks_app.errors import InvalidInput

KEYS_SHOWN = 200


class KeyForm(forms.Form):
    """A key for a program of mine."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100, help_text=gettext_lazy("What it is for."))
    role = forms.ChoiceField(
        label=gettext_lazy("Role at most"),
        choices=Role.choices,
        initial=Role.VIEWER,
        help_text=gettext_lazy("It may do no more than you may, and no more than this role."),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Scopes"),
        required=False,
        choices=[(verb.value, verb.value) for verb in Verb if verb != Verb.VIEW],
        widget=forms.SelectMultiple(attrs={"size": 5}),
        help_text=gettext_lazy("What of that it may do beside looking. None chosen: all of it."),
    )
    addresses = forms.CharField(
        label=gettext_lazy("Taken from"),
        required=False,
        widget=forms.TextInput(attrs=MONO),
        help_text=gettext_lazy("Address ranges, split by commas, such as 10.1.0.0/16. Empty: from everywhere."),
    )
    days = forms.IntegerField(
        label=gettext_lazy("Days"),
        required=False,
        min_value=1,
        max_value=services.LONGEST_LIFE.days,
        help_text=gettext_lazy("Until it expires. Empty: until it is deleted."),
    )

    def wish(self) -> dict[str, Any]:
        """What the service takes."""
        given = {name: self.cleaned_data[name] for name in ("name", "role", "scopes")}
        addresses = [text.strip() for text in self.cleaned_data["addresses"].split(",") if text.strip()]
        return {**given, "addresses": addresses}


@page
def key_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """My own keys. The text of a new one stands in the answer to the form that made it, and nowhere else."""
    if request.method != "POST":
        return _shown(request, actor, KeyForm())
    form, now = KeyForm(request.POST), timezone.now()
    if form.is_valid():
        days = form.cleaned_data["days"]
        expiry = None if days is None else now + timedelta(days=days)
        try:
            _key, token = services.create_key(actor, actor.user, **form.wish(), expiry=expiry, now=now)
        except InvalidInput as error:
            put_on(form, error)
        else:
            return _shown(request, actor, KeyForm(), token)
    return _shown(request, actor, form)


@action(back="console:keys")
def delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    key = queries.get_visible(services.keys_visible_to(actor), pk)
    services.delete_key(actor, key, now=timezone.now())
    messages.success(request, _("The key %(name)s is deleted.") % {"name": key.name})
    return redirect("console:keys")


def _shown(request: HttpRequest, actor: Actor, form: KeyForm, token: str = "") -> HttpResponse:
    now = timezone.now()
    keys = list(services.keys_visible_to(actor).filter(user=actor.user).order_by("-pk")[:KEYS_SHOWN])
    over = {key.pk for key in keys if key.expiry is not None and key.expiry <= now}
    context = {"form": form, "keys": keys, "over": over, "token": token}
    return render(request, "console/keys.html", context, status=422 if form.errors else 200)
