"""`/settings/`: what can be tuned while everything runs, for administrators of the installation."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from access_app import runtime_services
from access_app.actors import Actor
from access_app.errors import InvalidInput
from console_app.door import page
from console_app.errors import put_on
from console_app.settings_form import SettingsForm


@page
def settings_page(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    shown = runtime_services.settings_visible_to(actor)
    form = SettingsForm(request.POST or None, shown)
    if request.method == "POST" and form.is_valid():
        try:
            runtime_services.change(actor, form.changes(), now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("Saved. Dispatchers and workers follow within a second or two."))
            return redirect("console:settings")
    rows = [(form[one.setting.name], one) for one in shown]
    return render(request, "console/settings.html", {"form": form, "rows": rows}, status=422 if form.errors else 200)
