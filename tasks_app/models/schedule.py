"""When a task fires, and the ledger of instants that did not become a run."""

from __future__ import annotations

from datetime import datetime

from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.models.calendar import Calendar
from tasks_app.models.task import Task


class ScheduleKind(models.TextChoices):
    CRON = "cron", _("cron")
    INTERVAL = "interval", _("interval")
    FIXED_DELAY = "fixed_delay", _("fixed delay")
    ONCE = "once", _("once")


class CatchUp(models.TextChoices):
    """Which of the instants that passed while nobody could fire become runs."""

    NONE = "none", _("none")
    LAST = "last", _("the last one")
    ALL = "all", _("all")


class GapPolicy(models.TextChoices):
    """What a fixed-time fire does when its local time does not exist (clocks go forward)."""

    RUN_AFTER = "run_after", _("run after the gap")
    SKIP = "skip", _("skip")


class RepeatPolicy(models.TextChoices):
    """What a fixed-time fire does when its local time comes twice (clocks go back)."""

    FIRST = "first", _("the first time only")
    BOTH = "both", _("both times")


class CalendarAction(models.TextChoices):
    """What becomes of an instant that the calendar does not allow."""

    SKIP = "skip", _("skip it")
    NEXT_ALLOWED = "next_allowed", _("run at the next allowed time")


class Schedule(models.Model):
    """One rule by which a task fires. `next_fire_at` belongs to the dispatcher."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="schedules")
    kind = models.CharField(_("kind"), max_length=15, choices=ScheduleKind.choices, default=ScheduleKind.CRON)
    expression = models.CharField(_("cron expression"), max_length=256, blank=True)
    interval_seconds = models.PositiveIntegerField(_("interval in seconds"), null=True, blank=True)
    at = models.DateTimeField(_("at"), null=True, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    dst_gap = models.CharField(
        _("when the time is skipped"), max_length=10, choices=GapPolicy.choices, default=GapPolicy.RUN_AFTER
    )
    dst_repeat = models.CharField(
        _("when the time comes twice"), max_length=10, choices=RepeatPolicy.choices, default=RepeatPolicy.FIRST
    )
    start_at = models.DateTimeField(_("from"), null=True, blank=True)
    end_at = models.DateTimeField(_("until"), null=True, blank=True)
    catch_up = models.CharField(_("catch up"), max_length=5, choices=CatchUp.choices, default=CatchUp.LAST)
    catch_up_window_seconds = models.PositiveIntegerField(_("catch-up window in seconds"), default=3600)
    max_catch_up = models.PositiveIntegerField(_("most runs to catch up"), default=100)
    jitter_seconds = models.PositiveIntegerField(_("jitter in seconds"), default=0)
    calendar = models.ForeignKey(
        Calendar, null=True, blank=True, on_delete=models.PROTECT, related_name="schedules", verbose_name=_("calendar")
    )
    calendar_action = models.CharField(
        _("outside the calendar"), max_length=15, choices=CalendarAction.choices, default=CalendarAction.SKIP
    )
    start_deadline_seconds = models.PositiveIntegerField(
        _("start deadline in seconds"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    note = models.CharField(_("note"), max_length=500, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True, editable=False)
    # Instants after this one are still to be answered; moved on only together with their answers.
    fired_until = models.DateTimeField(_("fired until"), editable=False)
    # Instants after this one are those of the rule as it stands; null where nobody knows since when it does.
    rule_since = models.DateTimeField(null=True, editable=False)
    next_fire_at = models.DateTimeField(_("next fire"), null=True, editable=False)
    # With a calendar: when it next really runs, null where that is not in sight; without one null.
    next_run_at = models.DateTimeField(null=True, editable=False)
    # Where it is not in sight: up to when it was looked ahead; null where it never runs again.
    looked_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering = ("id",)
        constraints = (
            models.CheckConstraint(
                condition=(models.Q(kind="cron") & ~models.Q(expression=""))
                | (models.Q(kind__in=("interval", "fixed_delay"), interval_seconds__gte=1))
                | (models.Q(kind="once", at__isnull=False)),
                name="schedule_kind_has_its_rule",
            ),
        )
        indexes = (
            # Reader: firing.due_schedules, in the order of the instants.
            models.Index(
                fields=("next_fire_at",),
                name="schedule_due",
                condition=models.Q(enabled=True, next_fire_at__isnull=False),
            ),
            # Reader: queries.upcoming_fires, schedules with a calendar in the order in which they really run.
            models.Index(
                fields=("next_run_at",),
                name="schedule_next_run",
                condition=models.Q(enabled=True, next_run_at__isnull=False),
            ),
            # Reader: firing.rearm, fixed-delay schedules whose run is under way.
            models.Index(
                fields=("id",),
                name="schedule_to_rearm",
                condition=models.Q(kind="fixed_delay", enabled=True, next_fire_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        if self.kind == ScheduleKind.FIXED_DELAY:
            return f"{self.interval_seconds} s after each end"
        return self.expression or (f"every {self.interval_seconds} s" if self.interval_seconds else f"at {self.at}")

    @property
    def shown_next_at(self) -> datetime | None:
        """When it next really runs, as its calendar leaves it; None where that is not in sight."""
        return self.next_fire_at if self.calendar_id is None else self.next_run_at


class LedgerEntry(models.Model):
    """Consecutive instants of a schedule that got no run, and why; or whose runs were deleted, and what these had
    answered. `expected = runs + entries`, for any stretch."""

    class Answer(models.TextChoices):
        SKIPPED = "skipped", _("skipped")
        COALESCED = "coalesced", _("coalesced")
        MISSED = "missed", _("missed")
        RUN = "run", _("ran")
        EXPIRED = "expired", _("expired")

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="ledger")
    first_at = models.DateTimeField(_("first instant"))
    last_at = models.DateTimeField(_("last instant"))
    count = models.PositiveIntegerField(_("instants"))
    answer = models.CharField(_("answer"), max_length=10, choices=Answer.choices)
    reason = models.CharField(_("reason"), max_length=30)

    class Meta:
        verbose_name = _("ledger entry")
        verbose_name_plural = _("fire ledger")
        ordering = ("-first_at",)
        constraints = (
            # Two dispatchers cannot answer the same stretch twice.
            models.UniqueConstraint(fields=("schedule", "first_at"), name="ledger_stretch_once"),
            models.CheckConstraint(
                condition=models.Q(last_at__gte=models.F("first_at"), count__gte=1), name="ledger_stretch_in_order"
            ),
        )

    def __str__(self) -> str:
        return f"{self.schedule_id}: {self.count} {self.answer}"
