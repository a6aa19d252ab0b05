"""Edges of a task: add one above or below it, change its condition or period, remove it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_app.actors import Actor
from access_app.roles import Verb, project_ids_with, require
from console_app.door import action, page
from console_app.errors import put_on, sentence
from console_app.forms import MONO
from tasks_app import queries
from tasks_app.errors import DependencyCycle, InvalidInput
from tasks_app.models import Task, TaskDependency
from tasks_app.periods import PeriodPolicy, Unit
from tasks_app.services import dependencies

MOST_NAMES = 500
UPSTREAM, DOWNSTREAM = "upstream", "downstream"


class EdgeForm(forms.Form):
    """What an edge says, beside its ends."""

    condition = forms.CharField(
        label=gettext_lazy("Condition"),
        required=False,
        max_length=1000,
        widget=forms.TextInput(attrs={**MONO, "placeholder": "output.rows > 0"}),
        help_text=gettext_lazy(
            "Over state, reason, exit_code, attempt, output and params of the upstream run. Where it does not hold, the"
            " edge counts as skipped. Empty: none."
        ),
    )
    period = forms.ChoiceField(
        label=gettext_lazy("By period"),
        required=False,
        choices=[
            ("", gettext_lazy("no")),
            (Unit.HOUR.value, gettext_lazy("hour")),
            (Unit.DAY.value, gettext_lazy("day")),
            (Unit.WEEK.value, gettext_lazy("week")),
            (Unit.MONTH.value, gettext_lazy("month")),
        ],
        help_text=gettext_lazy("It waits for the last run of the upstream task in this period of its nominal time."),
    )
    period_back = forms.IntegerField(
        label=gettext_lazy("Periods back"),
        required=False,
        min_value=0,
        initial=0,
        help_text=gettext_lazy("0: the same period; 1: the period before."),
    )
    period_policy = forms.ChoiceField(
        label=gettext_lazy("Without a success in the period"),
        required=False,
        initial=PeriodPolicy.WAIT.value,
        choices=[
            (PeriodPolicy.WAIT.value, gettext_lazy("wait for one")),
            (PeriodPolicy.FAIL.value, gettext_lazy("end as upstream failed")),
        ],
    )

    def fields_of_edge(self) -> dict[str, Any]:
        given = self.cleaned_data
        return {
            "condition": given["condition"],
            "period": given["period"],
            "period_back": given["period_back"] or 0,
            "period_policy": given["period_policy"] or PeriodPolicy.WAIT.value,
        }


class NewEdgeForm(EdgeForm):
    """An edge of a task that is known, to or from another one by its name."""

    side = forms.ChoiceField(
        label=gettext_lazy("The other task"),
        choices=[(UPSTREAM, gettext_lazy("is upstream")), (DOWNSTREAM, gettext_lazy("is downstream"))],
    )
    other = forms.CharField(
        label=gettext_lazy("Its name"),
        max_length=210,
        widget=forms.TextInput(attrs={"list": "task-names", "autocomplete": "off"}),
    )


@page
def new(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    require(actor, Verb.EDIT, task.project_id)
    side = request.GET.get("side", "")
    form = NewEdgeForm(request.POST or None, initial={"side": side if side == DOWNSTREAM else UPSTREAM})
    if request.method == "POST" and form.is_valid():
        try:
            other = _named(actor, task, form.cleaned_data["other"])
            ends = (other, task) if form.cleaned_data["side"] == UPSTREAM else (task, other)
            dependencies.create(actor, *ends, form.fields_of_edge(), now=timezone.now())
        except (InvalidInput, DependencyCycle) as error:
            _show(form, error)
        else:
            messages.success(request, _("The dependency is added; it counts for runs that are planned from now on."))
            return redirect("console:task", pk=pk)
    names = _editable(actor).exclude(pk=task.pk).order_by("name").values_list("name", flat=True).distinct()
    return _form_page(request, form, task, names=names[:MOST_NAMES])


@page
def edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    edge = _visible(actor, pk)
    for task in (edge.upstream, edge.downstream):
        require(actor, Verb.EDIT, task.project_id)
    shown = {name: getattr(edge, name) for name in dependencies.EDGE_FIELDS}
    form = EdgeForm(request.POST or None, initial=shown)
    if request.method == "POST" and form.is_valid():
        try:
            dependencies.update(actor, edge, form.fields_of_edge(), now=timezone.now())
        except (InvalidInput, DependencyCycle) as error:
            _show(form, error)
        else:
            messages.success(request, _("The dependency is saved; runs that are planned already keep what they have."))
            return redirect("console:task", pk=edge.downstream_id)
    return _form_page(request, form, edge.downstream, edge=edge)


@action(back="console:dependency_edit")
def delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    edge = _visible(actor, pk)
    dependencies.delete(actor, edge, now=timezone.now())
    messages.success(request, _("The dependency is removed; runs that are planned already keep theirs."))
    return redirect("console:task", pk=edge.downstream_id)


def _visible(actor: Actor, pk: int) -> TaskDependency:
    return queries.get_visible(queries.dependencies_visible_to(actor), pk)


def _editable(actor: Actor) -> QuerySet[Task]:
    ids = project_ids_with(actor, Verb.EDIT)
    tasks = queries.tasks_visible_to(actor)
    return tasks if ids is None else tasks.filter(project__in=ids)


def _named(actor: Actor, task: Task, name: str) -> Task:
    """The task of that name: the one of the same project before others. Raises InvalidInput."""
    found = list(_editable(actor).filter(name=name).order_by("pk")[:2])
    own = _editable(actor).filter(name=name, project=task.project_id).first()
    if own is not None:
        return own
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(other=_("Several projects have a task of this name; use the API or the admin."))
    raise InvalidInput(other=_("You can edit no task of this name."))


def _show(form: forms.Form, error: InvalidInput | DependencyCycle) -> None:
    if isinstance(error, InvalidInput):
        put_on(form, InvalidInput(**{_FIELDS.get(name, name): texts for name, texts in error.errors.items()}))
    else:
        form.add_error(None, sentence(error))


# The service names the ends as its callers do; the form has one field for the other end.
_FIELDS = {"upstream": "other", "downstream": "other"}


def _form_page(
    request: HttpRequest, form: forms.Form, task: Task, *, edge: TaskDependency | None = None, names: Any = ()
) -> HttpResponse:
    context = {"form": form, "task": task, "edge": edge, "names": names}
    return render(request, "console/dependency_edit.html", context, status=422 if form.errors else 200)
