"""A run, its edges to other runs, its events and its output."""

from __future__ import annotations

from functools import reduce
from operator import or_

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from tasks_app.models.backfill import Backfill
from tasks_app.models.resource import Pool
from tasks_app.models.schedule import Schedule
from tasks_app.models.task import Task, TaskVersion
from tasks_app.periods import PeriodPolicy
from tasks_app.states import ALLOWED, LIVE, TERMINAL, UNSUCCESSFUL, Reason, RunState

STATE_CHOICES = [(state.value, state.value) for state in RunState]


class RunType(models.TextChoices):
    SCHEDULED = "scheduled", _("scheduled")
    MANUAL = "manual", _("manual")
    RERUN = "rerun", _("rerun")
    UPSTREAM = "upstream", _("upstream")
    BACKFILL = "backfill", _("backfill")
    PART = "part", _("part")


class Run(models.Model):
    """One execution of a task version. `state` is written by transitions.py alone; `attempt` is the fence."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="runs", db_index=False)
    version = models.ForeignKey(TaskVersion, on_delete=models.PROTECT, related_name="runs", db_index=False)
    schedule = models.ForeignKey(Schedule, null=True, on_delete=models.SET_NULL, related_name="runs", db_index=False)
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="runs", db_index=False)
    # The run of the task whose firing planned this one as downstream; null on that first run itself.
    root = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="members", db_index=False)
    # The run beside which this one was made, each of them one of `shard_total` parts; null on that first run itself.
    shard_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="parts", db_index=False)
    shard_index = models.PositiveSmallIntegerField(null=True)
    shard_total = models.PositiveSmallIntegerField(null=True)
    rerun_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="reruns", db_index=False)
    run_type = models.CharField(max_length=10, choices=RunType.choices)
    state = models.CharField(max_length=15, choices=STATE_CHOICES, default=RunState.WAITING.value)
    reason = models.CharField(max_length=30, blank=True, choices=[(r.value, r.value) for r in Reason])
    reason_detail = models.CharField(max_length=1000, blank=True)
    attempt = models.PositiveSmallIntegerField(default=1)
    worker_deaths = models.PositiveSmallIntegerField(default=0)
    priority = models.PositiveSmallIntegerField()
    trigger_rule = models.CharField(max_length=30, blank=True)
    # Slots of its pool that it takes.
    weight = models.PositiveSmallIntegerField(default=1)
    concurrency_key = models.CharField(max_length=200, blank=True)
    backfill = models.ForeignKey(Backfill, null=True, on_delete=models.SET_NULL, related_name="runs", db_index=False)
    held = models.BooleanField(default=False)
    # False while the trigger rule has not said `start`; always True for a run without upstream.
    upstream_ready = models.BooleanField(default=True)
    # True from planning until release has told the downstream runs that this one is terminal.
    tell_downstream = models.BooleanField(default=False)
    # True where the end of each attempt is to be told to a circuit breaker or to the task's count of failures;
    # `told_attempt` is the last one that was.
    tell_limits = models.BooleanField(default=False)
    told_attempt = models.PositiveSmallIntegerField(default=0)
    nominal_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField()
    # The start deadline: a run that still waits then has expired.
    expires_at = models.DateTimeField(null=True)
    queued_at = models.DateTimeField(null=True)
    sweep_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    # Set together with cancel_requested_at where its process is to be killed at once.
    terminate_requested_at = models.DateTimeField(null=True)
    # The identity (UUID) of the worker that claimed it; workers live in an app above this one.
    worker_id = models.UUIDField(null=True)
    # The worker to whose own queue it was sent; null where it went to the queue of its pool.
    target_id = models.UUIDField(null=True)
    # Set where somebody released it from quarantine: more memory than its version has; no other run beside it.
    memory_limit_mb = models.PositiveIntegerField(null=True)
    alone = models.BooleanField(default=False)
    exit_code = models.IntegerField(null=True)
    params = models.JSONField(default=dict)
    output = models.JSONField(null=True)
    idempotency_key = models.CharField(max_length=200, null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("schedule", "nominal_at"), name="run_once_per_instant", condition=Q(schedule__isnull=False)
            ),
            models.UniqueConstraint(
                fields=("task", "idempotency_key"),
                name="run_once_per_idempotency_key",
                condition=Q(idempotency_key__isnull=False),
            ),
            models.UniqueConstraint(
                fields=("root", "task"), name="run_once_per_root_and_task", condition=Q(root__isnull=False)
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(TERMINAL), finished_at__isnull=False)
                | (~Q(state__in=sorted(TERMINAL)) & Q(finished_at__isnull=True)),
                name="run_finished_at_is_terminal",
            ),
            models.CheckConstraint(
                condition=~Q(state=RunState.RUNNING.value) | Q(worker_id__isnull=False, started_at__isnull=False),
                name="run_running_has_worker",
            ),
            models.CheckConstraint(condition=Q(state__in=sorted(RunState)), name="run_state_known"),
        )
        indexes = (
            # Reader: lanes, the ready runs of one task, key, priority and backfill in the order in which they fall due.
            models.Index(
                "task",
                "concurrency_key",
                "priority",
                Coalesce("backfill", 0),
                "due_at",
                "id",
                name="run_lane",
                condition=Q(state=RunState.WAITING.value, upstream_ready=True, held=False),
            ),
            # Reader: lanes, whose turn it is among the keys of a task.
            models.Index(
                fields=("task", "concurrency_key", "queued_at"),
                name="run_last_of_key",
                condition=Q(queued_at__isnull=False) & ~Q(concurrency_key=""),
            ),
            # Reader: expiry.expire. A retry is past its first start, and so past the deadline for it.
            models.Index(
                fields=("expires_at",),
                name="run_expiring",
                condition=Q(state=RunState.WAITING.value, expires_at__isnull=False, attempt=1),
            ),
            # Reader: noting.note_ended.
            models.Index(
                fields=("id",),
                name="run_to_note",
                condition=Q(tell_limits=True)
                & (Q(finished_at__isnull=False) | Q(attempt__gt=models.F("told_attempt") + 1)),
            ),
            # Readers: progress and limit of a backfill.
            models.Index(fields=("backfill", "state"), name="run_of_backfill", condition=Q(backfill__isnull=False)),
            # Readers: the fire ledger, dependencies by period.
            models.Index(fields=("task", "nominal_at"), name="run_of_instant", condition=Q(nominal_at__isnull=False)),
            # Reader: rescue.unclaimed.
            models.Index(fields=("sweep_at",), name="run_unclaimed", condition=Q(state=RunState.QUEUED.value)),
            # Readers: limits, lanes (live runs of a task and key).
            models.Index(
                fields=("task", "concurrency_key"), name="run_live_of_task", condition=Q(state__in=sorted(LIVE))
            ),
            # Reader: limits (live runs of a pool).
            models.Index(fields=("pool",), name="run_live_of_pool", condition=Q(state__in=sorted(LIVE))),
            # Readers: rescue.of_lost_workers, a worker's own beat.
            models.Index(fields=("worker_id",), name="run_of_worker", condition=Q(state=RunState.RUNNING.value)),
            # Readers: the parts of a run, its deletion.
            models.Index(fields=("shard_of",), name="run_part_of", condition=Q(shard_of__isnull=False)),
            # Reader: routes (how much is queued to a worker alone).
            models.Index(
                fields=("target_id",),
                name="run_queued_to",
                condition=Q(state=RunState.QUEUED.value, target_id__isnull=False),
            ),
            # Reader: routes (whose turn it is among the workers).
            models.Index(
                fields=("task", "target_id", "queued_at"),
                name="run_last_of_target",
                condition=Q(target_id__isnull=False, queued_at__isnull=False),
            ),
            # Reader: release.accept, upstream runs that ended and whose downstream runs do not know yet.
            models.Index(fields=("finished_at",), name="run_to_tell", condition=Q(tell_downstream=True)),
            # Reader: whoever deletes a run: the database looks for the runs that point to it, for each one deleted.
            models.Index(fields=("rerun_of",), name="run_again_for", condition=Q(rerun_of__isnull=False)),
            # Reader: run lists of a task.
            models.Index(fields=("task", "-id"), name="run_of_task"),
            # Readers: last failures on the overview, alerts.
            models.Index(fields=("-finished_at",), name="run_bad", condition=Q(state__in=sorted(UNSUCCESSFUL))),
        )

    def __str__(self) -> str:
        return f"#{self.pk}"

    @property
    def shard_number(self) -> int:
        """Which part it is, counted from 1, for people."""
        return (self.shard_index or 0) + 1


class RunDependency(models.Model):
    """A frozen edge between two runs of one firing: later edits of the graph do not change it."""

    upstream = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="downstream_edges", db_index=False)
    downstream = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="upstream_edges")
    condition = models.CharField(max_length=1000, blank=True)

    class Meta:
        verbose_name = _("run dependency")
        verbose_name_plural = _("run dependencies")
        constraints = (models.UniqueConstraint(fields=("upstream", "downstream"), name="run_dependency_once"),)

    def __str__(self) -> str:
        return f"#{self.upstream_id} → #{self.downstream_id}"


class RunPeriod(models.Model):
    """A frozen dependency by period: on the last run of `upstream_task` of nominal time in [start, end)."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="period_edges")
    upstream_task = models.ForeignKey(Task, null=True, on_delete=models.SET_NULL, related_name="+")
    start = models.DateTimeField()
    end = models.DateTimeField()
    policy = models.CharField(max_length=4, choices=[(p.value, p.value) for p in PeriodPolicy])
    # Judged: its upstream run has succeeded, or the run that waits has ended.
    settled = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("dependency by period")
        verbose_name_plural = _("dependencies by period")
        constraints = (
            models.CheckConstraint(condition=Q(end__gt=models.F("start")), name="run_period_in_order"),
            models.UniqueConstraint(fields=("run", "upstream_task", "start"), name="run_period_once"),
        )
        indexes = (
            # Reader: acceptance.accept_periods.
            models.Index(fields=("id",), name="run_period_open", condition=Q(settled=False)),
        )

    def __str__(self) -> str:
        return f"#{self.run_id} waits for {self.upstream_task_id} in {self.start:%Y-%m-%d %H:%M}"


class RunEvent(models.Model):
    """One change of state. Written by the statement that made the change, never apart from it."""

    # No constraint in the database: four events a run would each lock the run's row again to check a key that the
    # statement has just written.
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_constraint=False)
    at = models.DateTimeField()
    from_state = models.CharField(max_length=15, blank=True)
    to_state = models.CharField(max_length=15)
    attempt = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=30, blank=True)
    detail = models.CharField(max_length=1000, blank=True)
    actor = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = _("run event")
        verbose_name_plural = _("run events")
        ordering = ("id",)
        constraints = (
            # A move that ALLOWED does not know cannot be recorded, and so not be made: both are one transaction.
            models.CheckConstraint(
                condition=reduce(
                    or_,
                    (Q(from_state=f.value, to_state__in=sorted(to)) for f, to in ALLOWED.items() if to),
                    Q(from_state="", to_state=RunState.WAITING.value),
                ),
                name="run_event_is_an_allowed_move",
            ),
        )

    def __str__(self) -> str:
        return f"#{self.run_id}: {self.from_state} → {self.to_state}"


class RunOutput(models.Model):
    """A batch of consecutive output lines of one attempt: `lines` is [[at ISO 8601 UTC, stream, text], ...]."""

    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="output_batches", db_index=False, db_constraint=False
    )
    attempt = models.PositiveSmallIntegerField()
    first_line = models.PositiveIntegerField()
    line_count = models.PositiveIntegerField()
    lines = models.JSONField()
    # Set on the batch that begins with the marker for what was left out.
    truncated = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("run output")
        verbose_name_plural = _("run output")
        ordering = ("run", "attempt", "first_line")
        constraints = (
            # Reader: run_output.log_lines. Lines count from 0 in each attempt, so a zombie cannot write into the next.
            models.UniqueConstraint(fields=("run", "attempt", "first_line"), name="run_output_line_once"),
        )

    def __str__(self) -> str:
        return f"#{self.run_id}: lines {self.first_line}+{self.line_count}"
