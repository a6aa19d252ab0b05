"""What runs compete for. A slot is never counted aside: it is the count of live runs under the lock of this row."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.breaker import BreakerState
from tasks_app.models.calendar import Calendar

pool_name = RegexValidator(r"^[a-z0-9][a-z0-9_-]*$", _("Use lower-case letters, digits, '-' and '_'."))


class Pool(models.Model):
    """A named set of workers with an optional limit on runs that are queued or running at once."""

    name = models.CharField(_("name"), max_length=50, unique=True, validators=[pool_name])
    slots = models.PositiveIntegerField(
        _("slots"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Runs queued or running at once; empty = as many as the workers take."),
    )
    description = models.TextField(_("description"), blank=True)

    class Meta:
        verbose_name = _("pool")
        verbose_name_plural = _("pools")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Resource(models.Model):
    """A shared target of tasks (a database, a remote API): how much of it may be used at once, how often, and when.

    Its circuit breaker (tasks_app.breaker) stands in the columns `breaker_*`: first its policy, then its state, which
    belongs to the dispatchers.
    """

    name = models.CharField(_("name"), max_length=50, unique=True, validators=[pool_name])
    description = models.TextField(_("description"), blank=True)
    capacity = models.PositiveIntegerField(
        _("capacity"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("How much of it runs may take at once; empty = no limit."),
    )
    rate_limit = models.PositiveIntegerField(
        _("starts per window"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    rate_window_seconds = models.PositiveIntegerField(
        _("window in seconds"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    calendar = models.ForeignKey(
        Calendar, null=True, blank=True, on_delete=models.PROTECT, related_name="resources", verbose_name=_("calendar")
    )
    breaker_failures = models.PositiveSmallIntegerField(
        _("breaker: trips after failures in a row"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    breaker_ratio = models.FloatField(
        _("breaker: trips at this share of failures"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0.01), MaxValueValidator(1)],
    )
    breaker_window = models.PositiveSmallIntegerField(
        _("breaker: last attempts looked at for the share"),
        default=20,
        validators=[MinValueValidator(1), MaxValueValidator(200)],
    )
    breaker_minimum = models.PositiveSmallIntegerField(
        _("breaker: attempts needed for the share"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(200)],
    )
    breaker_open_seconds = models.PositiveIntegerField(
        _("breaker: tripped for seconds"), default=30, validators=[MinValueValidator(1)]
    )
    breaker_open_seconds_at_most = models.PositiveIntegerField(
        _("breaker: tripped for at most seconds"), default=1800, validators=[MinValueValidator(1)]
    )
    breaker_state = models.CharField(
        max_length=10,
        choices=[(state.value, state.value) for state in BreakerState],
        default=BreakerState.CLOSED.value,
        editable=False,
    )
    breaker_changed_at = models.DateTimeField(null=True, editable=False)
    breaker_open_until = models.DateTimeField(null=True, editable=False)
    breaker_failures_in_a_row = models.PositiveIntegerField(default=0, editable=False)
    breaker_outcomes = models.CharField(max_length=200, blank=True, editable=False)
    breaker_openings = models.PositiveIntegerField(default=0, editable=False)
    breaker_wave = models.PositiveIntegerField(default=0, editable=False)
    breaker_wave_successes = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = _("resource")
        verbose_name_plural = _("resources")
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(rate_limit__isnull=True, rate_window_seconds__isnull=True)
                | models.Q(rate_limit__gte=1, rate_window_seconds__gte=1),
                name="resource_rate_is_whole",
            ),
        )

    def __str__(self) -> str:
        return self.name


class TaskResource(models.Model):
    """How much of a resource a run of a task takes."""

    task = models.ForeignKey("Task", on_delete=models.CASCADE, related_name="task_resources")
    resource = models.ForeignKey(Resource, on_delete=models.PROTECT, related_name="task_resources")
    amount = models.PositiveSmallIntegerField(_("amount"), default=1, validators=[MinValueValidator(1)])

    class Meta:
        verbose_name = _("resource of a task")
        verbose_name_plural = _("resources of tasks")
        constraints = (models.UniqueConstraint(fields=("task", "resource"), name="task_resource_once"),)

    def __str__(self) -> str:
        return f"{self.task_id}: {self.amount} of {self.resource_id}"


class RateStart(models.Model):
    """A start that counts against a rate, of its task or of a resource of it; kept for as long as the window is."""

    task = models.ForeignKey("Task", on_delete=models.CASCADE, related_name="rate_starts", db_index=False)
    at = models.DateTimeField()

    class Meta:
        verbose_name = _("start under a rate")
        verbose_name_plural = _("starts under a rate")
        # Readers: gates (starts in the window), rescue (those that no window holds any more).
        indexes = (models.Index(fields=("task", "at"), name="rate_start_of_task"),)

    def __str__(self) -> str:
        return f"{self.task_id} at {self.at}"
