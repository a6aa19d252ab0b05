"""Requests for approval and the rules that ask for them."""

from __future__ import annotations

from typing import Any

import django_filters
from django.apps import apps
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import approval_rules, approvals
from access_app.api.fields import BooleanField, InstantField, StrictSerializer, TextField
from access_app.api.problems import CONTENT_TYPE
from access_app.api.schema import problem_response
from access_app.api.views import ApiView, ListView
from access_app.approval_models import ApprovalRequest, Kind
from access_app.errors import InvalidInput, NotFound
from access_app.roles import require_membership, visible_project_ids

DECIDED = {
    (409, CONTENT_TYPE): problem_response(
        "`wrong_state`: it is decided or expired; `approval_outdated`: its objects were changed meanwhile, ask again."
    )
}


class ApprovalSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField(help_text="`run`, `edit`, `secret` or `rule`.")
    operation = serializers.CharField()
    project = serializers.CharField(source="project.name", allow_null=True, default=None)
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    object_name = serializers.CharField()
    state = serializers.SerializerMethodField(
        help_text="`pending`, `approved`, `denied`, `cancelled`, `outdated` or `expired`."
    )
    payload = serializers.SerializerMethodField(help_text="The stored call; null where it is not for you to see.")
    effects = serializers.SerializerMethodField(help_text="What it would tell the audit trail; null as `payload`.")
    requester = serializers.CharField()
    requested_at = InstantField()
    expires_at = InstantField()
    decider = serializers.CharField()
    decided_at = InstantField(allow_null=True)
    comment = serializers.CharField()
    break_glass = serializers.BooleanField()
    reviewer = serializers.CharField()
    reviewed_at = InstantField(allow_null=True)
    review = serializers.CharField()

    def get_state(self, request: ApprovalRequest) -> str:
        return approvals.shown_state(request, self.context["now"])

    def get_payload(self, request: ApprovalRequest) -> dict[str, Any] | None:
        seen = request.kind != Kind.SECRET and approvals.may_see_payload(self.context["actor"], request)
        return request.payload if seen else None

    def get_effects(self, request: ApprovalRequest) -> list[dict[str, Any]] | None:
        return request.effects if approvals.may_see_payload(self.context["actor"], request) else None


class CommentBody(StrictSerializer):
    comment = TextField(max_length=approvals.LONGEST_COMMENT, allow_blank=True, default="")


class NoBody(StrictSerializer):
    pass


class ReasonBody(StrictSerializer):
    reason = TextField(max_length=approvals.LONGEST_COMMENT, help_text=gettext_lazy("Why it cannot wait."))


class ApprovalFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=ApprovalRequest.State.choices, label=gettext_lazy("state"))
    kind = django_filters.ChoiceFilter(choices=Kind.choices, label=gettext_lazy("kind"))
    project = django_filters.CharFilter(field_name="project__name", label=gettext_lazy("project"))

    class Meta:
        model = ApprovalRequest
        fields: tuple[str, ...] = ()


class _Shown(ApiView):
    def shown(self, rows: list[ApprovalRequest]) -> list[Any]:
        context = {"actor": self.actor, "now": self.now}
        return list(ApprovalSerializer(rows, many=True, context=context).data)

    def found(self, approval_id: int) -> ApprovalRequest:
        key = approval_id if approval_id < 2**63 else 0
        request = approvals.requests_visible_to(self.actor).filter(pk=key).first()
        if request is None:
            raise NotFound
        return request

    def answer(self, request: ApprovalRequest) -> Response:
        return Response(self.shown([request])[0])


class ApprovalsView(_Shown, ListView):
    filterset = ApprovalFilter

    @extend_schema(operation_id="approvals_list", responses=ApprovalSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Your requests for approval, and those of your projects, newest first. The filter `state` is what was set."""
        return self.page(approvals.requests_visible_to(self.actor), self.shown)


class ApprovalView(_Shown):
    @extend_schema(operation_id="approvals_read", responses=ApprovalSerializer)
    def get(self, request: Request, approval_id: int) -> Response:  # noqa: ARG002
        """One request."""
        return self.answer(self.found(approval_id))


class ApproveView(_Shown):
    @extend_schema(
        operation_id="approvals_approve", request=CommentBody, responses={200: ApprovalSerializer, **DECIDED}
    )
    def post(self, request: Request, approval_id: int) -> Response:  # noqa: ARG002
        """Have it done now, exactly as it was asked for. Not for whoever asked: 403 `self_approval`."""
        found, given = self.found(approval_id), self.read(CommentBody)
        return self.answer(approvals.approve(self.actor, found, comment=given["comment"], now=self.now))


class DenyView(_Shown):
    @extend_schema(operation_id="approvals_deny", request=CommentBody, responses={200: ApprovalSerializer, **DECIDED})
    def post(self, request: Request, approval_id: int) -> Response:  # noqa: ARG002
        """Refuse it."""
        found, given = self.found(approval_id), self.read(CommentBody)
        return self.answer(approvals.deny(self.actor, found, comment=given["comment"], now=self.now))


class CancelView(_Shown):
    @extend_schema(operation_id="approvals_cancel", request=NoBody, responses={200: ApprovalSerializer, **DECIDED})
    def post(self, request: Request, approval_id: int) -> Response:  # noqa: ARG002
        """Take back what you asked for."""
        found = self.found(approval_id)
        self.read(NoBody)
        return self.answer(approvals.cancel(self.actor, found, now=self.now))


class BreakGlassView(_Shown):
    @extend_schema(
        operation_id="approvals_break_glass", request=ReasonBody, responses={200: ApprovalSerializer, **DECIDED}
    )
    def post(self, request: Request, approval_id: int) -> Response:  # noqa: ARG002
        """Have it done without a second person, for administrators of the project: it stays listed until it is
        reviewed."""
        found, given = self.found(approval_id), self.read(ReasonBody)
        return self.answer(approvals.break_glass(self.actor, found, reason=given["reason"], now=self.now))


class ReviewView(_Shown):
    @extend_schema(operation_id="approvals_review", request=CommentBody, responses={200: ApprovalSerializer, **DECIDED})
    def post(self, request: Request, approval_id: int) -> Response:  # noqa: ARG002
        """Say that you have looked at what was done without a second person."""
        found, given = self.found(approval_id), self.read(CommentBody)
        return self.answer(approvals.review(self.actor, found, comment=given["comment"], now=self.now))


class RuleSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    project = serializers.CharField(source="project.name", allow_null=True, default=None, help_text="null: everywhere.")
    tag = serializers.CharField()
    runs = serializers.BooleanField()
    edits = serializers.BooleanField()
    secrets = serializers.BooleanField()
    created_at = InstantField()
    created_by = serializers.CharField()


class RuleBody(StrictSerializer):
    project = TextField(max_length=100, allow_null=True, default=None, help_text=gettext_lazy("null: everywhere."))
    tag = TextField(max_length=50, allow_blank=True, default="", help_text=gettext_lazy("Empty: all of the project."))
    runs = BooleanField(default=False)
    edits = BooleanField(default=False)
    secrets = BooleanField(default=False)


class RulesView(ListView):
    @extend_schema(operation_id="approval_rules_list", responses=RuleSerializer(many=True))
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """The rules of approval that concern you."""
        rows = approval_rules.rules_visible_to(self.actor)
        return self.page(rows, lambda found: list(RuleSerializer(found, many=True).data))

    @extend_schema(operation_id="approval_rules_create", request=RuleBody, responses={201: RuleSerializer})
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Ask for a second person. Administrators of the project; for a tag everywhere, of the installation."""
        require_membership(self.actor)
        given = self.read(RuleBody)
        project = _project(self, given.pop("project"))
        rule = approval_rules.create(self.actor, project, given.pop("tag"), given, now=self.now)
        return Response(RuleSerializer(rule).data, status=201)


class RuleView(ApiView):
    @extend_schema(operation_id="approval_rules_delete", responses={204: None})
    def delete(self, request: Request, rule_id: int) -> Response:  # noqa: ARG002
        """Take a rule away; this needs a second person itself."""
        key = rule_id if rule_id < 2**63 else 0
        rule = approval_rules.rules_visible_to(self.actor).filter(pk=key).first()
        if rule is None:
            raise NotFound
        approval_rules.delete(self.actor, rule, now=self.now)
        return Response(status=204)


def _project(view: ApiView, name: str | None) -> Any:
    if name is None:
        return None
    visible = visible_project_ids(view.actor)
    rows = apps.get_model("tasks_app", "Project")._default_manager.filter(name=name)
    found = rows.first() if visible is None else rows.filter(pk__in=visible).first()
    if found is None:
        raise InvalidInput(project=_("There is no project %(name)s.") % {"name": name})
    return found
