"""A backfill: runs for instants of the past, as one job that can be watched, paused and cancelled."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.models.schedule import Schedule
from tasks_app.models.task import Task


class Reprocess(models.TextChoices):
    """Which instants that have a run get another one."""

    NONE = "none", _("none")
    FAILED = "failed", _("those that did not succeed")
    ALL = "all", _("all")


class BackfillState(models.TextChoices):
    """Whether its runs may start. That all are over is seen from the runs."""

    ACTIVE = "active", _("active")
    PAUSED = "paused", _("paused")
    CANCELLED = "cancelled", _("cancelled")


class Backfill(models.Model):
    """The instants of one schedule from `start_at` to `end_at`, both inclusive, planned as runs of type `backfill`."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="backfills")
    schedule = models.ForeignKey(Schedule, null=True, on_delete=models.SET_NULL, related_name="backfills")
    start_at = models.DateTimeField(_("from"))
    end_at = models.DateTimeField(_("until"))
    reprocess = models.CharField(_("run again"), max_length=10, choices=Reprocess.choices, default=Reprocess.NONE.value)
    newest_first = models.BooleanField(_("newest first"), default=False)
    max_concurrent = models.PositiveIntegerField(_("runs at once"), default=1, validators=[MinValueValidator(1)])
    priority = models.PositiveSmallIntegerField(_("priority"), default=10, validators=[MaxValueValidator(100)])
    params = models.JSONField(_("parameters"), default=dict, blank=True)
    state = models.CharField(max_length=10, choices=BackfillState.choices, default=BackfillState.ACTIVE.value)
    # Runs that were planned.
    total = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(_("created at"))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = _("backfill")
        verbose_name_plural = _("backfills")
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(end_at__gte=models.F("start_at")), name="backfill_stretch_in_order"
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_id}: {self.start_at:%Y-%m-%d} – {self.end_at:%Y-%m-%d}"
