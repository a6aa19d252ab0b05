"""Admin pages of rules and requests of approval: to look at; they are decided in the console and over the API."""

from __future__ import annotations

from django.contrib import admin

from access_app.admin import ReadOnlyAdmin
from access_app.approval_models import ApprovalPolicy, ApprovalRequest
from access_app.roles import Verb


@admin.register(ApprovalPolicy)
class ApprovalPolicyAdmin(ReadOnlyAdmin):
    project_path = "project"
    list_display = ("id", "project", "tag", "runs", "edits", "secrets", "created_at", "created_by")
    list_select_related = ("project",)


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(ReadOnlyAdmin):
    project_path = "project"
    shown_by = Verb.SEE_PARAMETERS
    list_display = ("id", "kind", "object_name", "project", "requester", "state", "break_glass", "decider")
    list_filter = ("state", "kind", "break_glass")
    list_select_related = ("project",)
    fields = (
        *("kind", "operation", "project", "object_type", "object_id", "object_name", "requester", "requested_at"),
        *(
            "expires_at",
            "state",
            "decider",
            "decided_at",
            "comment",
            "break_glass",
            "reviewer",
            "reviewed_at",
            "review",
        ),
    )
