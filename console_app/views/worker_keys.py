"""`/workers/keys/`: which keys make machines workers, and who uses them? With one more, shown once, and one revoked."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_app import worker_keys
from access_app.actors import Actor
from access_app.roles import Verb, require_everywhere
from console_app.door import action, page
from console_app.errors import put_on
from tasks_app import queries
from tasks_app.errors import InvalidInput
from tasks_app.models import Pool
from workers_app.models import HOLDING_A_LEASE

KEYS_SHOWN = 200


class WorkerKeyForm(forms.Form):
    """A key for a machine or a group of machines."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        help_text=gettext_lazy("What machine or group of machines it is for."),
    )
    pools = forms.ModelMultipleChoiceField(
        label=gettext_lazy("Pools"),
        queryset=Pool.objects.none(),
        help_text=gettext_lazy("The pools whose runs its workers may take."),
    )

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        pools = self.fields["pools"]
        assert isinstance(pools, forms.ModelMultipleChoiceField)
        pools.queryset = Pool.objects.order_by("name")
        pools.widget.attrs["size"] = min(max(pools.queryset.count(), 2), 6)


@page
def key_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """All keys. The text of a new one stands in the answer to the form that made it, and nowhere else."""
    require_everywhere(actor, Verb.MANAGE_WORKERS)
    if request.method != "POST":
        return _shown(request, actor, WorkerKeyForm())
    form = WorkerKeyForm(request.POST)
    if form.is_valid():
        try:
            _key, token = worker_keys.create(
                actor, name=form.cleaned_data["name"], pools=list(form.cleaned_data["pools"]), now=timezone.now()
            )
        except InvalidInput as error:
            put_on(form, error)
        else:
            return _shown(request, actor, WorkerKeyForm(), token)
    return _shown(request, actor, form)


@action(back="console:workers")
def revoke(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    key = queries.get_visible(worker_keys.keys_visible_to(actor), pk)
    worker_keys.revoke(actor, key, now=timezone.now())
    messages.success(request, _("The worker key %(name)s is revoked.") % {"name": key.name})
    return redirect("console:worker_keys")


def _shown(request: HttpRequest, actor: Actor, form: WorkerKeyForm, token: str = "") -> HttpResponse:
    serving = Count("workers", filter=Q(workers__state__in=HOLDING_A_LEASE))
    keys = worker_keys.keys_visible_to(actor).annotate(serving=serving).order_by("-pk")
    context = {"form": form, "keys": keys[:KEYS_SHOWN], "token": token, "address": request.build_absolute_uri("/")}
    return render(request, "console/worker_keys.html", context, status=422 if form.errors else 200)
