"""A task, its immutable versions, and the edges between tasks."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from tasks_app.dependencies import TriggerRule
from tasks_app.models.project import Project, one_line
from tasks_app.models.resource import Pool, Resource, TaskResource
from tasks_app.periods import PeriodPolicy, Unit
from tasks_app.retry import POISON_LIMIT
from tasks_app.routing import MOST_SHARDS, Routing

PRIORITY_NAMES: dict[str, int] = {"low": 20, "normal": 50, "high": 75, "critical": 100}


class Overlap(models.TextChoices):
    """What a new run does when its task has no slot left; tasks_app.overlap says it exactly."""

    ALLOW = "allow", _("allow")
    SKIP = "skip", _("skip the new one")
    QUEUE_ONE = "queue_one", _("queue one, the newest")
    QUEUE_ALL = "queue_all", _("queue all")
    CANCEL_RUNNING = "cancel_running", _("cancel the running one")
    TERMINATE_RUNNING = "terminate_running", _("kill the running one")


class PauseMode(models.TextChoices):
    """What a paused task does with its instants and its waiting runs."""

    DROP = "drop", _("skip what falls into the pause")
    QUEUE = "queue", _("let runs wait until it is resumed")
    DRAIN = "drain", _("finish what waits, take nothing new")


class Task(models.Model):
    """What is to be done: ownership, limits and the way it is scheduled. How it is done stands in its version."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="tasks", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=200, validators=[one_line])
    description = models.TextField(_("description"), blank=True, max_length=20_000)
    task_type = models.CharField(_("type"), max_length=50, blank=True, validators=[one_line])
    # Words to group by; rules of approval may name one.
    tags = models.JSONField(_("tags"), default=list, blank=True)
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
    weight = models.PositiveSmallIntegerField(
        _("weight"),
        default=1,
        validators=[MinValueValidator(1)],
        help_text=_("Slots of its pool that a run takes."),
    )
    # Macros over the parameters of a run; its value is the key, and runs of one key share its limit.
    concurrency_key = models.CharField(_("concurrency key"), max_length=200, blank=True)
    max_concurrent_per_key = models.PositiveIntegerField(
        _("max concurrent per key"), default=1, validators=[MinValueValidator(1)]
    )
    rate_limit = models.PositiveIntegerField(
        _("starts per window"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    rate_window_seconds = models.PositiveIntegerField(
        _("window in seconds"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    start_deadline_seconds = models.PositiveIntegerField(
        _("start deadline in seconds"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    auto_pause_after = models.PositiveSmallIntegerField(
        _("pause after failures in a row"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    routing = models.CharField(_("routing"), max_length=20, choices=Routing.choices, default=Routing.ANY)
    # The parameter whose value is the key of consistent_hash; empty: the concurrency key is.
    routing_key = models.CharField(_("routing key"), max_length=100, blank=True, validators=[one_line])
    # Names for `specific` (one) and `failover` (in order).
    routing_workers = models.JSONField(_("workers"), default=list, blank=True)
    shards = models.PositiveSmallIntegerField(
        _("shards"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MOST_SHARDS)]
    )
    # See tasks_app.label_expressions.
    required_labels = models.CharField(_("required labels"), max_length=500, blank=True, validators=[one_line])
    # Runs that failed since the last success; kept only where auto_pause_after is set.
    failures_in_a_row = models.PositiveIntegerField(default=0, editable=False)
    paused = models.BooleanField(_("paused"), default=False)
    paused_reason = models.CharField(_("reason of the pause"), max_length=500, blank=True)
    pause_mode = models.CharField(
        _("while paused"), max_length=10, choices=PauseMode.choices, default=PauseMode.DROP, editable=False
    )
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True, editable=False)
    resources = models.ManyToManyField(Resource, through=TaskResource, related_name="tasks")
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(fields=("project", "name"), name="task_name_once_per_project"),
            models.CheckConstraint(condition=models.Q(priority__lte=100), name="task_priority_at_most_100"),
            models.CheckConstraint(
                condition=models.Q(rate_limit__isnull=True, rate_window_seconds__isnull=True)
                | models.Q(rate_limit__gte=1, rate_window_seconds__gte=1),
                name="task_rate_is_whole",
            ),
        )
        indexes = (
            # Reader: pauses.resume_due, tasks whose pause has an end.
            models.Index(
                fields=("paused_until",),
                name="task_to_resume",
                condition=models.Q(paused=True, paused_until__isnull=False),
            ),
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
    # {variable: name of a secret of the project}; never a value. See tasks_app.secret_names.
    secrets = models.JSONField(_("secrets"), default=dict, blank=True)
    timeout_seconds = models.PositiveIntegerField(_("timeout in seconds"), default=3600)
    retry_count = models.PositiveSmallIntegerField(_("retries"), default=0)
    retry_delay_seconds = models.PositiveIntegerField(_("first retry after seconds"), default=10)
    retry_cap_seconds = models.PositiveIntegerField(_("longest retry delay in seconds"), default=3600)
    retry_jitter = models.BooleanField(_("spread retries"), default=True)
    # {"exit_codes": [2], "exceptions": ["ValueError"], "statuses": ["404", "4xx"]}: failures that are final.
    never_retry = models.JSONField(_("never retry"), default=dict, blank=True)
    retry_budget_seconds = models.PositiveIntegerField(_("retry for at most seconds"), null=True, blank=True)
    retry_on_lost = models.BooleanField(_("rerun when its worker is lost"), default=False)
    poison_limit = models.PositiveSmallIntegerField(
        _("quarantine after dead workers"), default=POISON_LIMIT, validators=[MinValueValidator(1)]
    )
    memory_limit_mb = models.PositiveIntegerField(
        _("memory limit in MB"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    cpu_limit_seconds = models.PositiveIntegerField(
        _("processor time limit in seconds"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    open_files_limit = models.PositiveIntegerField(
        _("open files limit"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
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
    """An edge: the downstream task runs after the upstream one, by the downstream task's trigger rule.

    With a `period` it is a dependency by period: the downstream run waits for the last run of the upstream task in that
    period of its own nominal time, whoever fired it; the upstream's firings plan nothing downstream of it.
    """

    upstream = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="downstream_edges")
    downstream = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="upstream_edges")
    # See tasks_app.conditions; an upstream run for which it does not hold counts as skipped.
    condition = models.CharField(_("condition"), max_length=1000, blank=True)
    period = models.CharField(_("period"), max_length=5, blank=True, choices=[(u.value, u.value) for u in Unit])
    period_back = models.PositiveSmallIntegerField(_("periods back"), default=0)
    period_policy = models.CharField(
        _("without a run in the period"),
        max_length=4,
        choices=[(p.value, p.value) for p in PeriodPolicy],
        default=PeriodPolicy.WAIT.value,
    )
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
