"""How a run was ended from outside: the steps that its worker took, and the workers that died with it."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.models.run import Run


class EndStep(models.Model):
    """One step towards the end of an attempt. When it was asked for, and when it was over, the run itself says."""

    class Step(models.TextChoices):
        ACKNOWLEDGED = "acknowledged", _("its worker has seen it")
        CLOSED = "closed", _("connection closed")
        INTERRUPTED = "interrupted", _("statement interrupted")
        TERM = "term", _("TERM sent")
        KILL = "kill", _("KILL sent")
        WORKER_LOST = "worker_lost", _("its worker is gone")

    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="end_steps", db_index=False, db_constraint=False
    )
    attempt = models.PositiveSmallIntegerField()
    step = models.CharField(max_length=15, choices=Step.choices)
    at = models.DateTimeField()

    class Meta:
        verbose_name = _("step of an ending")
        verbose_name_plural = _("steps of endings")
        ordering = ("at", "id")
        constraints = (
            # Reader: end_steps.ladders. Also what makes writing them again harmless.
            models.UniqueConstraint(fields=("run", "attempt", "step"), name="end_step_once"),
        )

    def __str__(self) -> str:
        return f"#{self.run_id}: {self.step}"


class WorkerDeath(models.Model):
    """A worker that died while it had the run. Why, it cannot say itself: its reaper does, through another worker of
    the host; what is null nobody has told."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="deaths", db_index=False, db_constraint=False)
    attempt = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    worker_id = models.UUIDField()
    worker_name = models.CharField(_("worker"), max_length=200)
    host = models.CharField(_("host"), max_length=200, blank=True)
    signal = models.PositiveSmallIntegerField(_("signal"), null=True)
    # The kernel ended a process of the host for want of memory in the same moment.
    out_of_memory = models.BooleanField(_("out of memory"), null=True)
    worker_peak_mb = models.PositiveIntegerField(_("most memory of the worker in MB"), null=True)
    run_peak_mb = models.PositiveIntegerField(_("most memory of the run in MB"), null=True)
    last_words = models.TextField(_("last words"), blank=True)

    class Meta:
        verbose_name = _("death of a worker")
        verbose_name_plural = _("deaths of workers")
        ordering = ("attempt", "id")
        constraints = (
            # Reader: deaths.of_run.
            models.UniqueConstraint(fields=("run", "attempt"), name="worker_death_once"),
        )
        indexes = (
            # Reader: deaths.explain.
            models.Index(fields=("worker_id",), name="worker_death_of_worker"),
        )

    def __str__(self) -> str:
        return f"{self.worker_name}: #{self.run_id}"
