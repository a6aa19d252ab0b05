"""What needs a second person, and who has asked for what."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Kind(models.TextChoices):
    """What somebody wants to do."""

    RUN = "run", _("run by hand")
    EDIT = "edit", _("edit")
    SECRET = "secret", _("change a secret")
    RULE = "rule", _("change a rule of approval")


class ApprovalPolicy(models.Model):
    """What needs a second person: in a project, for tasks with a tag, or for tasks of a project with a tag."""

    # By name, as below: projects live in an app above this one.
    project = models.ForeignKey(
        "tasks_app.Project",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="approval_policies",
        verbose_name=_("project"),
    )
    tag = models.CharField(_("tag"), max_length=50, blank=True)
    runs = models.BooleanField(_("manual runs"), default=False)
    edits = models.BooleanField(_("edits"), default=False)
    secrets = models.BooleanField(_("secrets"), default=False)
    created_at = models.DateTimeField(_("created at"), editable=False)
    created_by = models.CharField(_("created by"), max_length=200, editable=False)

    class Meta:
        verbose_name = _("rule of approval")
        verbose_name_plural = _("rules of approval")
        ordering = ("id",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(project__isnull=False) | ~models.Q(tag=""), name="approval_policy_names_something"
            ),
            models.CheckConstraint(
                condition=models.Q(runs=True) | models.Q(edits=True) | models.Q(secrets=True),
                name="approval_policy_asks_something",
            ),
        )

    def __str__(self) -> str:
        return " · ".join(part for part in (self.project.name if self.project else "", self.tag) if part)


class ApprovalRequest(models.Model):
    """Something that waits for a second person, and what came of it. What is approved is exactly what is stored."""

    class State(models.TextChoices):
        """Where it stands; a pending one whose time is over counts as expired."""

        PENDING = "pending", _("pending")
        APPROVED = "approved", _("approved")
        DENIED = "denied", _("denied")
        CANCELLED = "cancelled", _("taken back")
        OUTDATED = "outdated", _("outdated")

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    operation = models.CharField(_("operation"), max_length=60)
    # Null: it concerns the whole installation.
    project = models.ForeignKey(
        "tasks_app.Project", null=True, on_delete=models.CASCADE, related_name="approvals", verbose_name=_("project")
    )
    object_type = models.CharField(_("object type"), max_length=60)
    object_id = models.CharField(_("object id"), max_length=60)
    object_name = models.CharField(_("object name"), max_length=200)
    # The call: see stored_calls. Emptied once it is decided, where it holds a secret.
    payload = models.JSONField(editable=False)
    digest = models.CharField(max_length=64, editable=False)
    # What it would write to the audit trail, which holds no secrets.
    effects = models.JSONField(editable=False)
    # The state of each object of the call when it was asked: {"tasks_app.task:5": "..."}.
    versions = models.JSONField(editable=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", verbose_name=_("asked by")
    )
    requester = models.CharField(_("asked by"), max_length=200)
    # The API key that asked; null for a person.
    key_id = models.BigIntegerField(null=True, editable=False)
    requested_at = models.DateTimeField(_("asked at"))
    expires_at = models.DateTimeField(_("expires at"))
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.PENDING)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    decider = models.CharField(_("decided by"), max_length=200, blank=True)
    decided_at = models.DateTimeField(_("decided at"), null=True)
    comment = models.CharField(_("comment"), max_length=1000, blank=True)
    break_glass = models.BooleanField(_("without a second person"), default=False)
    reviewed_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    reviewer = models.CharField(_("reviewed by"), max_length=200, blank=True)
    reviewed_at = models.DateTimeField(_("reviewed at"), null=True)
    review = models.CharField(_("review"), max_length=1000, blank=True)

    class Meta:
        verbose_name = _("request for approval")
        verbose_name_plural = _("requests for approval")
        ordering = ("-id",)
        constraints = (
            # The last line behind the rule: whoever asked is not the one who approves.
            models.CheckConstraint(
                condition=~models.Q(state="approved", break_glass=False, requested_by=models.F("decided_by")),
                name="approval_by_a_second_person",
            ),
            models.CheckConstraint(
                condition=~models.Q(reviewed_by=models.F("decided_by")), name="approval_reviewed_by_another_person"
            ),
        )
        indexes = (
            # Reader: the list of what is pending, and its number on every page.
            models.Index(
                fields=("project", "expires_at"), name="approval_pending", condition=models.Q(state="pending")
            ),
            # Reader: the list of what is to be reviewed.
            models.Index(
                fields=("project",),
                name="approval_to_review",
                condition=models.Q(break_glass=True, reviewed_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return f"{self.operation} {self.object_name}"
