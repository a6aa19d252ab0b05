"""`/approvals/`: what waits for a second person, what did I ask for, what was decided? With the rules of it."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from access_app import approval_rules, approvals
from access_app.actors import Actor
from access_app.approval_models import ApprovalPolicy, ApprovalRequest, Kind
from access_app.roles import Verb, allows, holds, project_ids_with, role_in
from access_app.services import administers
from console_app.door import action, page
from console_app.errors import put_on
from console_app.paging import by_id
from tasks_app import queries
from tasks_app.errors import InvalidInput, PermissionRefused
from tasks_app.models import Project

TABS: tuple[tuple[str, Promise], ...] = (
    ("pending", gettext_lazy("Waiting")),
    ("mine", gettext_lazy("Asked by me")),
    ("review", gettext_lazy("To review")),
    ("history", gettext_lazy("All")),
)
OPERATIONS: dict[str, Promise] = {
    "runs.trigger": gettext_lazy("run"),
    "runs.trigger_batch": gettext_lazy("run many times"),
    "runs.rerun": gettext_lazy("run again"),
    "runs.rerun_failed": gettext_lazy("run again what failed"),
    "runs.release": gettext_lazy("release from quarantine"),
    "backfills.plan": gettext_lazy("backfill"),
    "tasks.create": gettext_lazy("create the task"),
    "tasks.update": gettext_lazy("change the task"),
    "tasks.delete": gettext_lazy("delete the task"),
    "schedules.create": gettext_lazy("add a schedule"),
    "schedules.update": gettext_lazy("change the schedule"),
    "schedules.delete": gettext_lazy("delete the schedule"),
    "dependencies.create": gettext_lazy("add a dependency"),
    "dependencies.update": gettext_lazy("change the dependency"),
    "dependencies.delete": gettext_lazy("remove the dependency"),
    "secrets.create": gettext_lazy("create a secret"),
    "secrets.update": gettext_lazy("change the secret"),
    "secrets.delete": gettext_lazy("delete the secret"),
    "approval_rules.delete": gettext_lazy("take the rule away"),
}
WORDS: dict[str, Promise] = {**dict(ApprovalRequest.State.choices), "expired": gettext_lazy("expired")}


class RuleForm(forms.Form):
    """A rule of approval."""

    project = forms.ModelChoiceField(
        label=gettext_lazy("Project"),
        queryset=Project.objects.none(),
        required=False,
        empty_label=gettext_lazy("every project"),
    )
    tag = forms.CharField(
        label=gettext_lazy("Tag"),
        required=False,
        max_length=approval_rules.LONGEST_TAG,
        help_text=gettext_lazy("Only tasks with this tag; empty: all of the project."),
    )
    runs = forms.BooleanField(label=gettext_lazy("Manual runs"), required=False)
    edits = forms.BooleanField(label=gettext_lazy("Edits of tasks, schedules and dependencies"), required=False)
    secrets = forms.BooleanField(label=gettext_lazy("Changes of secrets"), required=False)


@page
def approval_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    now, shown = timezone.now(), request.GET.get("show", "pending")
    visible = approvals.requests_visible_to(actor)
    rows: dict[str, QuerySet[ApprovalRequest]] = {
        "pending": visible.filter(state=ApprovalRequest.State.PENDING, expires_at__gt=now),
        "mine": visible.filter(requested_by=actor.user),
        "review": visible.filter(break_glass=True, reviewed_at=None),
        "history": visible,
    }
    found, newer, older = by_id(rows.get(shown, rows["pending"]), request.GET)
    context = {
        "rows": [_row(one, now) for one in found],
        "tabs": [
            (name, label, name == shown, rows[name].count() if name != "history" else None) for name, label in TABS
        ],
        "shown": shown,
        "newer": newer,
        "older": older,
    }
    return render(request, "console/approvals.html", context)


@page
def approval_page(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    found, now = _found(actor, pk), timezone.now()
    state = approvals.shown_state(found, now)
    mine, sees = found.requested_by == actor.user, approvals.may_see_payload(actor, found)
    verb = approvals.VERBS[Kind(found.kind)]
    decides = administers(actor) if found.project_id is None else holds(actor, verb, found.project_id)
    manages = administers(actor) if found.project_id is None else holds(actor, Verb.MANAGE, found.project_id)
    reviewed = found.break_glass and found.reviewed_at is None
    payload = {name: value for name, value in found.payload.items() if name not in ("task", "run")}
    context = {
        **_row(found, now),
        "effects": [(one, _changes(one)) for one in found.effects] if sees else [],
        "payload_text": json.dumps(payload, indent=2, ensure_ascii=False)
        if sees and found.kind == Kind.RUN and payload
        else "",
        "may_see": sees,
        "may_decide": state == "pending" and decides and not mine,
        "may_cancel": state == "pending" and mine,
        "may_break": state == "pending" and manages and mine,
        "may_review": reviewed and manages and actor.user not in (found.decided_by, found.requested_by),
        "to_review": reviewed,
    }
    return render(request, "console/approval.html", context)


@action(back="console:approval")
def approve(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    comment = request.POST.get("comment", "")
    approvals.approve(actor, _found(actor, pk), comment=comment, now=timezone.now())
    return _done(request, pk, _("Approved: it is done, in the name of whoever asked."))


@action(back="console:approval")
def deny(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    approvals.deny(actor, _found(actor, pk), comment=request.POST.get("comment", ""), now=timezone.now())
    return _done(request, pk, _("Denied: nothing was done."))


@action(back="console:approval")
def cancel(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    approvals.cancel(actor, _found(actor, pk), now=timezone.now())
    return _done(request, pk, _("Taken back: nothing was done."))


@action(back="console:approval")
def break_glass(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    approvals.break_glass(actor, _found(actor, pk), reason=request.POST.get("reason", ""), now=timezone.now())
    return _done(request, pk, _("It is done without a second person, and listed until another one has reviewed it."))


@action(back="console:approval")
def review(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    approvals.review(actor, _found(actor, pk), comment=request.POST.get("comment", ""), now=timezone.now())
    return _done(request, pk, _("Reviewed."))


@page
def rules(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    managed = project_ids_with(actor, Verb.MANAGE)
    projects = Project.objects.all() if managed is None else Project.objects.filter(pk__in=managed)
    if request.method == "POST" and managed == []:
        raise PermissionRefused
    form = RuleForm(request.POST or None)
    field = form.fields["project"]
    assert isinstance(field, forms.ModelChoiceField)
    field.queryset = projects.order_by("name")
    if request.method == "POST" and form.is_valid():
        given = dict(form.cleaned_data)
        try:
            approval_rules.create(actor, given.pop("project"), given.pop("tag"), given, now=timezone.now())
        except InvalidInput as error:
            put_on(form, error)
        else:
            messages.success(request, _("The rule holds from now on."))
            return redirect("console:approval_rules")
    rows = [(rule, _manages(actor, rule)) for rule in approval_rules.rules_visible_to(actor)]
    context = {"form": form, "rows": rows, "may_create": managed != []}
    return render(request, "console/approval_rules.html", context, status=422 if form.errors else 200)


@require_POST
@page
def rule_delete(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    rule = queries.get_visible(approval_rules.rules_visible_to(actor), pk)
    approval_rules.delete(actor, rule, now=timezone.now())
    messages.success(request, _("The rule is taken away."))
    return redirect("console:approval_rules")


def _found(actor: Actor, pk: int) -> ApprovalRequest:
    return queries.get_visible(approvals.requests_visible_to(actor), pk)


def _done(request: HttpRequest, pk: int, text: str) -> HttpResponse:
    messages.success(request, text)
    return redirect("console:approval", pk=pk)


def _row(one: ApprovalRequest, now: Any) -> dict[str, Any]:
    state = approvals.shown_state(one, now)
    words = OPERATIONS.get(one.operation, one.operation)
    return {"asked": one, "state": state, "state_word": WORDS[state], "what": words}


def _changes(effect: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    before, after = effect["before"] or {}, effect["after"] or {}
    return [(name, _text(before, name), _text(after, name)) for name in {**before, **after}]


def _text(values: dict[str, Any], name: str) -> str | None:
    return json.dumps(values[name], ensure_ascii=False) if name in values else None


def _manages(actor: Actor, rule: ApprovalPolicy) -> bool:
    if rule.project_id is None:
        return administers(actor)
    return allows(role_in(actor, rule.project_id), Verb.MANAGE)
