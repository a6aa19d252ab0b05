"""A task, its immutable versions, and the edges between tasks."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.dependencies import TriggerRule
from tasks_app.models.project import Project, one_line
from tasks_app.models.resource import Pool

PRIORITY_NAMES: dict[str, int] = {"low": 20, "normal": 50, "high": 75, "critical": 100}


class Overlap(models.TextChoices):
    """What a new run does while another of the same task is live."""

    ALLOW = "allow", _("allow")
    QUEUE_ALL = "queue_all", _("queue all")


class Task(models.Model):
    """What is to be done: ownership, limits and the way it is scheduled. How it is done stands in its version."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="tasks", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=200, validators=[one_line])
    description = models.TextField(_("description"), blank=True, max_length=20_000)
    task_type = models.CharField(_("type"), max_length=50, blank=True, validators=[one_line])
    version = models.ForeignKey("TaskVersion", null=True, editable=False, on_delete=models.PROTECT, related_name="+")
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="tasks", verbose_name=_("pool"))
    priority = models.PositiveSmallIntegerField(
        _("priority"), default=PRIORITY_NAMES["normal"], validators=[MaxValueValidator(100)]
    )
    overlap = models.CharField(_("overlap"), max_length=20, choices=Overlap.choices, default=Overlap.ALLOW)
    max_concurrent = models.PositiveIntegerField(
        _("max concurrent"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    trigger_rule = models.CharField(
        _("trigger rule"),
        max_length=30,
        choices=[(rule.value, rule.value) for rule in TriggerRule],
        default=TriggerRule.ALL_SUCCESS.value,
    )
    paused = models.BooleanField(_("paused"), default=False)
    paused_reason = models.CharField(_("reason of the pause"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(fields=("project", "name"), name="task_name_once_per_project"),
            models.CheckConstraint(condition=models.Q(priority__lte=100), name="task_priority_at_most_100"),
        )

    def __str__(self) -> str:
        return self.name


class TaskVersion(models.Model):
    """How a task is executed. Never changed: an edit adds a version, and a run keeps the one it was planned with."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(_("number"))
    executor = models.CharField(_("executor"), max_length=20)
    command = models.TextField(_("command"), max_length=100_000)
    params = models.JSONField(_("parameters"), default=dict)
    timeout_seconds = models.PositiveIntegerField(_("timeout in seconds"), default=3600)
    retry_count = models.PositiveSmallIntegerField(_("retries"), default=0)
    retry_delay_seconds = models.PositiveIntegerField(_("first retry after seconds"), default=10)
    retry_on_lost = models.BooleanField(_("rerun when its worker is lost"), default=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = _("task version")
        verbose_name_plural = _("task versions")
        ordering = ("-number",)
        constraints = (models.UniqueConstraint(fields=("task", "number"), name="task_version_number_once"),)

    def __str__(self) -> str:
        return f"{self.task} v{self.number}"


class TaskDependency(models.Model):
    """An edge: the downstream task runs after the upstream one, by the downstream task's trigger rule."""

    upstream = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="downstream_edges")
    downstream = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="upstream_edges")
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("dependency")
        verbose_name_plural = _("dependencies")
        constraints = (
            models.UniqueConstraint(fields=("upstream", "downstream"), name="dependency_once"),
            models.CheckConstraint(
                condition=~models.Q(upstream=models.F("downstream")), name="dependency_not_on_itself"
            ),
        )

    def __str__(self) -> str:
        return f"{self.upstream} → {self.downstream}"
