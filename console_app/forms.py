"""Forms: what people type, parsed. What it means, and whether it may be, services decide."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.utils.translation import gettext_lazy as _

from access_app.json_text import JSONFault, loads
from tasks_app.dependencies import TriggerRule
from tasks_app.errors import InvalidInput
from tasks_app.executors import EXECUTORS
from tasks_app.models import Pool, Project, Task, TaskVersion
from tasks_app.models.task import Overlap, PauseMode
from tasks_app.services import runs, tasks

MONO = {"class": "mono", "spellcheck": "false", "autocomplete": "off"}


class ParamsField(forms.CharField):
    """A JSON object as text; shows what is not JSON at the field."""

    widget = forms.Textarea(attrs={**MONO, "rows": 4})

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value or {}, indent=2, ensure_ascii=False)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return loads(text) if text else {}
        except JSONFault as fault:
            raise forms.ValidationError(str(fault), code="invalid") from fault


class PriorityField(forms.CharField):
    """A name (low, normal, high, critical) or a number from 0 to 100."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


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
    etag = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, projects: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]

    def values(self) -> dict[str, Any]:
        """The fields for the service. Raises InvalidInput for a priority that is none."""
        values = {name: value for name, value in self.cleaned_data.items() if name != "etag"}
        values["priority"] = runs.priority_number(values["priority"])
        values["schedule"] = values["schedule"] or None
        return values

    @staticmethod
    def values_of(task: Task) -> dict[str, Any]:
        """What the form shows of a task that exists."""
        version = task.version
        assert isinstance(version, TaskVersion)
        shown = {name: getattr(task, name) for name in tasks.TASK_FIELDS}
        shown |= {name: getattr(version, name) for name in tasks.VERSION_FIELDS}
        shown |= {"priority": runs.priority_name(task.priority), "schedule": tasks.short_schedule(task) or ""}
        return shown | {"etag": tasks.etag(task)}


class ZonedTimeField(forms.DateTimeField):
    """An instant typed in UTC; shown as ISO 8601."""

    widget = forms.TextInput(attrs={**MONO, "placeholder": "2030-01-31 08:00"})

    def prepare_value(self, value: Any) -> Any:
        return value if not hasattr(value, "strftime") else value.strftime("%Y-%m-%d %H:%M:%S")


class PauseForm(forms.Form):
    """A pause: why, until when, and what happens meanwhile."""

    reason = forms.CharField(label=_("Reason"), required=False, max_length=500)
    until = ZonedTimeField(label=_("Until (UTC)"), required=False, help_text=_("Empty: until it is resumed."))
    mode = forms.ChoiceField(label=_("Meanwhile"), choices=PauseMode.choices, initial=PauseMode.DROP, required=False)

    def values(self) -> dict[str, Any]:
        """The fields for the service. Raises InvalidInput at the field that is wrong."""
        if not self.is_valid():
            raise InvalidInput(**{name: [str(text) for text in texts] for name, texts in self.errors.items()})
        return self.cleaned_data | {"mode": self.cleaned_data["mode"] or PauseMode.DROP.value}


def zone_names() -> list[str]:
    """The zones to offer: UTC, then the places. Other IANA names (EST, Etc/GMT+5) may be typed all the same."""
    others = ("Etc/", "posix", "right")
    places = sorted(name for name in available_timezones() if "/" in name and not name.startswith(others))
    return ["UTC", *places]
