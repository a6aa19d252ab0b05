"""The form of a task: what people type, parsed. What it means, and whether it may be, services decide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from console_app.forms import MONO, ParamsField, PriorityField
from console_app.secret_form import SecretsField
from tasks_app import never_retry
from tasks_app.dependencies import TriggerRule
from tasks_app.errors import InvalidInput
from tasks_app.executors import EXECUTORS
from tasks_app.models import Pool, Project, Task, TaskVersion
from tasks_app.models.task import Overlap
from tasks_app.retry import POISON_LIMIT
from tasks_app.routing import Routing
from tasks_app.services import runs, tasks
from tasks_app.services.task_resources import amounts_of

# Fields of the form for the three parts of never_retry.
NEVER = {"never_exit_codes": "exit_codes", "never_exceptions": "exceptions", "never_statuses": "statuses"}
KEPT_WHEN_EMPTY = ("weight", "max_concurrent_per_key", "retry_cap_seconds", "poison_limit", "routing")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_AMOUNT = re.compile(r"([a-z0-9][a-z0-9_-]*)(?:\s*[\s:=]\s*([0-9]{1,9}))?")


class WordsField(forms.CharField):
    """Words with commas or blanks between them, as a list."""

    widget = forms.TextInput(attrs=MONO)

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=2000, **options)

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        return re.split(r"[,\s]+", text) if (text := super().clean(value).strip(", ")) else []


class AmountsField(forms.CharField):
    """Names with amounts: `warehouse 2, api`. A name alone is 1."""

    widget = forms.TextInput(attrs=MONO)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return ", ".join(name if amount == 1 else f"{name} {amount}" for name, amount in value.items())

    def clean(self, value: Any) -> Any:
        amounts: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", super().clean(value)))):
            found = _AMOUNT.fullmatch(part)
            if found is None:
                raise forms.ValidationError(_("Write names and amounts like this: warehouse 2, api"), code="invalid")
            amounts[found[1]] = int(found[2] or 1)
        return amounts


class TaskForm(forms.Form):
    """A task with the way it is executed and, for the common case, one cron schedule."""

    name = forms.CharField(label=_("Name"), max_length=200)
    project = forms.ModelChoiceField(label=_("Project"), queryset=Project.objects.none(), empty_label=None)
    description = forms.CharField(
        label=_("Description"), required=False, max_length=20_000, widget=forms.Textarea(attrs={"rows": 2})
    )
    task_type = forms.CharField(
        label=_("Type"), required=False, max_length=50, help_text=_("A word of your own, to filter by.")
    )
    executor = forms.ChoiceField(
        label=_("Executor"), choices=[(executor.name, executor.name) for executor in EXECUTORS.values()]
    )
    command = forms.CharField(
        label=_("Command"), max_length=100_000, strip=False, widget=forms.Textarea(attrs={**MONO, "rows": 3})
    )
    params = ParamsField(
        label=_("Parameters"),
        required=False,
        help_text=_(
            "A JSON object; a run may override single names. {{ upstream.load.rows }}, {{ nominal_date }} and other"
            " macros are replaced when it starts."
        ),
    )
    secrets = SecretsField(
        label=_("Secrets"),
        required=False,
        max_length=4000,
        help_text=_("Names of secrets that a run gets as variables; VARIABLE=NAME where the variable is to differ."),
    )
    schedule = forms.CharField(
        label=_("Schedule"),
        required=False,
        max_length=256,
        widget=forms.TextInput(attrs={**MONO, "placeholder": "0 2 * * *"}),
        help_text=_("A cron expression, or empty. Time zone and catch-up are set on the schedule itself."),
    )
    pool = forms.ModelChoiceField(label=_("Pool"), queryset=Pool.objects.all(), empty_label=None)
    priority = PriorityField(
        label=_("Priority"), initial="normal", help_text=_("low, normal, high, critical, or 0 to 100")
    )
    overlap = forms.ChoiceField(label=_("Overlap"), choices=Overlap.choices, initial=Overlap.ALLOW)
    max_concurrent = forms.IntegerField(
        label=_("Runs at once"), required=False, min_value=1, help_text=_("Empty: as many as there are slots.")
    )
    trigger_rule = forms.ChoiceField(
        label=_("Trigger rule"),
        choices=[(rule.value, rule.value) for rule in TriggerRule],
        initial=TriggerRule.ALL_SUCCESS.value,
        help_text=_("When it starts after its upstream tasks."),
    )
    timeout_seconds = forms.IntegerField(label=_("Timeout in seconds"), initial=3600, min_value=1)
    retry_count = forms.IntegerField(label=_("Retries"), initial=0, min_value=0)
    retry_delay_seconds = forms.IntegerField(label=_("First retry after seconds"), initial=10, min_value=0)
    retry_on_lost = forms.BooleanField(
        label=_("Run again when its worker is lost"),
        required=False,
        help_text=_("Only for work that may happen twice."),
    )
    poison_limit = forms.IntegerField(
        label=_("Quarantine after dead workers"),
        required=False,
        min_value=1,
        initial=POISON_LIMIT,
        help_text=_("A run that so many workers have died with is put aside."),
    )
    retry_cap_seconds = forms.IntegerField(
        label=_("Longest wait in seconds"), required=False, min_value=1, initial=3600
    )
    retry_jitter = forms.BooleanField(
        label=_("Spread the waits by chance"),
        required=False,
        initial=True,
        help_text=_("What failed together does not come back together."),
    )
    retry_budget_seconds = forms.IntegerField(
        label=_("Retry for at most seconds"), required=False, min_value=1, help_text=_("After the first start.")
    )
    never_exit_codes = WordsField(label=_("Never after exit codes"), help_text=_("Such as 2, 64"))
    never_exceptions = WordsField(label=_("Never after exceptions"), help_text=_("Such as ValueError"))
    never_statuses = WordsField(label=_("Never after HTTP statuses"), help_text=_("Such as 429, 5xx"))
    weight = forms.IntegerField(
        label=_("Weight"), required=False, min_value=1, initial=1, help_text=_("Slots of its pool that a run takes.")
    )
    memory_limit_mb = forms.IntegerField(
        label=_("Memory in MB"), required=False, min_value=1, help_text=_("Of all processes of a run together.")
    )
    cpu_limit_seconds = forms.IntegerField(
        label=_("Processor time in seconds"), required=False, min_value=1, help_text=_("What uses more is ended.")
    )
    open_files_limit = forms.IntegerField(
        label=_("Open files"), required=False, min_value=1, help_text=_("Of each process.")
    )
    start_deadline_seconds = forms.IntegerField(
        label=_("Start deadline in seconds"), required=False, min_value=1, help_text=_("What waits longer expires.")
    )
    auto_pause_after = forms.IntegerField(
        label=_("Pause after failures in a row"), required=False, min_value=1, help_text=_("Empty: never.")
    )
    concurrency_key = forms.CharField(
        label=_("Concurrency key"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={**MONO, "placeholder": "{{ params.region }}"}),
        help_text=_("Runs of one key share a limit of their own."),
    )
    max_concurrent_per_key = forms.IntegerField(label=_("Runs at once per key"), required=False, min_value=1, initial=1)
    rate_limit = forms.IntegerField(label=_("Starts per window"), required=False, min_value=1)
    rate_window_seconds = forms.IntegerField(label=_("Window in seconds"), required=False, min_value=1)
    resources = AmountsField(
        label=_("Resources"), required=False, help_text=_("Names, with the amount where it is not 1: warehouse 2, api")
    )
    routing = forms.ChoiceField(
        label=_("Routing"), required=False, choices=Routing.choices, initial=Routing.ANY, help_text=_("Of its pool.")
    )
    routing_key = forms.CharField(
        label=_("Parameter that is the key"),
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs=MONO),
        help_text=_("For one worker for each key; empty: the concurrency key."),
    )
    routing_workers = WordsField(
        label=_("Names of workers"), help_text=_("For a named worker, or in order for the first that is online.")
    )
    shards = forms.IntegerField(
        label=_("Number of runs"), required=False, min_value=1, help_text=_("For several runs; each knows its number.")
    )
    required_labels = forms.CharField(
        label=_("Required labels"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={**MONO, "placeholder": "gpu and zone in (a, b)"}),
        help_text=_("What a worker must have; others get none of its runs."),
    )
    etag = forms.CharField(required=False, widget=forms.HiddenInput)

    MORE_LIMITS = (
        "weight",
        "start_deadline_seconds",
        "auto_pause_after",
        "concurrency_key",
        "max_concurrent_per_key",
        "rate_limit",
        "rate_window_seconds",
        "resources",
        "memory_limit_mb",
        "cpu_limit_seconds",
        "open_files_limit",
    )
    WORKERS = ("routing", "routing_key", "routing_workers", "shards", "required_labels")
    RETRIES = (
        "retry_cap_seconds",
        "retry_jitter",
        "retry_budget_seconds",
        "retry_on_lost",
        "poison_limit",
        *NEVER,
    )

    def __init__(self, *args: Any, projects: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]

    @property
    def opens_limits(self) -> bool:
        """Whether the group has something to show: a mistake, or a value that is not the default."""
        return self._says_something(self.MORE_LIMITS)

    @property
    def opens_retries(self) -> bool:
        return self._says_something(self.RETRIES)

    @property
    def opens_workers(self) -> bool:
        return self._says_something(self.WORKERS)

    def _says_something(self, names: Sequence[str]) -> bool:
        def typed(name: str) -> str:
            value = self[name].value()
            return "" if value is None or value is False or value == [] else str(value)

        def usual(name: str) -> str:
            value = self.fields[name].initial
            return "" if value is None else str(value)

        return any(name in self.errors or typed(name) != usual(name) for name in names)

    def values(self) -> dict[str, Any]:
        """The fields for the service. Raises InvalidInput for a priority that is none, and for rules that are none."""
        values = {name: value for name, value in self.cleaned_data.items() if name not in ("etag", *NEVER)}
        values["priority"] = runs.priority_number(values["priority"])
        values["schedule"] = values["schedule"] or None
        values["routing"] = values["routing"] or None
        values["never_retry"] = self._never_retry()
        # Left empty, they stay as they are.
        return {name: value for name, value in values.items() if value is not None or name not in KEPT_WHEN_EMPTY}

    def _never_retry(self) -> dict[str, list[Any]]:
        rules: dict[str, list[Any]] = {}
        for name, key in NEVER.items():
            words = self.cleaned_data[name]
            entries = [int(word) if key == "exit_codes" and _NUMBER.fullmatch(word) else word for word in words]
            try:
                never_retry.parse({key: entries})
            except never_retry.NeverRetryError as error:
                raise InvalidInput(**{name: str(error)}) from error
            if entries:
                rules[key] = entries
        return rules

    @staticmethod
    def values_of(task: Task) -> dict[str, Any]:
        """What the form shows of a task that exists."""
        version = task.version
        assert isinstance(version, TaskVersion)
        shown = {name: getattr(task, name) for name in tasks.TASK_FIELDS}
        shown |= {name: getattr(version, name) for name in tasks.VERSION_FIELDS}
        shown |= {name: version.never_retry.get(key, []) for name, key in NEVER.items()}
        shown |= {"priority": runs.priority_name(task.priority), "schedule": tasks.short_schedule(task) or ""}
        return shown | {"resources": amounts_of(task), "etag": tasks.etag(task)}
