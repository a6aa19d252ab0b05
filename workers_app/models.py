"""A worker: its lease is this row's `lease_until`, on the database's clock."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from access_app.models import WorkerKey
from tasks_app.models import Pool


class WorkerState(models.TextChoices):
    ONLINE = "online", _("online")
    CORDONED = "cordoned", _("cordoned")
    DRAINING = "draining", _("draining")
    OFFLINE = "offline", _("offline")
    LOST = "lost", _("lost")


# A worker in one of these beats, or is to be found dead by its lease.
HOLDING_A_LEASE = (WorkerState.ONLINE, WorkerState.CORDONED, WorkerState.DRAINING)


class Worker(models.Model):
    """One start of a worker process; a restart is a new row with a new UUID, so a dead one can never come back."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(_("name"), max_length=200)
    host = models.CharField(_("host"), max_length=200)
    pid = models.PositiveIntegerField(_("process id"))
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="workers", verbose_name=_("pool"))
    slots = models.PositiveIntegerField(_("slots"))
    labels = models.JSONField(_("labels"), default=dict)
    # Of an agent, a worker that comes through the API: the key with which it came, and the executors that it offers.
    # None: a worker of the broker, which has all.
    key = models.ForeignKey(
        WorkerKey, null=True, blank=True, on_delete=models.PROTECT, related_name="workers", verbose_name=_("worker key")
    )
    executors = models.JSONField(_("executors"), null=True, blank=True)
    code_version = models.CharField(_("version"), max_length=50, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=WorkerState.choices, default=WorkerState.ONLINE)
    started_at = models.DateTimeField(_("started at"))
    beat_at = models.DateTimeField(_("last beat"))
    lease_until = models.DateTimeField(_("lease until"))
    stopped_at = models.DateTimeField(_("stopped at"), null=True)
    # As of the last beat; None where it could not be measured. Percentages are of the whole machine.
    slots_used = models.PositiveIntegerField(_("slots in use"), default=0)
    cpu_percent = models.FloatField(_("processors in use, %"), null=True)
    memory_percent = models.FloatField(_("memory in use, %"), null=True)
    memory_bytes = models.BigIntegerField(_("memory of the worker itself, bytes"), null=True)
    messages_dropped = models.PositiveBigIntegerField(_("messages dropped"), default=0)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ("-started_at",)
        indexes = (
            # Reader: rescue.expired_leases.
            models.Index(
                fields=("lease_until",),
                name="worker_lease",
                condition=models.Q(state__in=HOLDING_A_LEASE),
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_agent(self) -> bool:
        return self.key_id is not None

    def can(self, executor: str) -> bool:
        """Whether it can execute that."""
        return self.executors is None or executor in self.executors
