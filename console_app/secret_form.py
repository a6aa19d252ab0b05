"""The form of a secret. Its value goes in and is never shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from access_app.models import Secret
from access_app.write_only import WriteOnlyField
from console_app.forms import MONO
from tasks_app.models import Project, Task

if TYPE_CHECKING:
    AnyModelMultipleChoiceField = forms.ModelMultipleChoiceField[Any]
else:
    AnyModelMultipleChoiceField = forms.ModelMultipleChoiceField


class SecretsField(forms.CharField):
    """Names of secrets: `API_TOKEN, DB_PASSWORD=REPORTS_PASSWORD`; before the sign stands the variable."""

    widget = forms.TextInput(attrs={**MONO, "placeholder": "API_TOKEN"})

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return ", ".join(name if variable == name else f"{variable}={name}" for variable, name in sorted(value.items()))

    def clean(self, value: Any) -> Any:
        words = [word.partition("=") for word in re.split(r"[,\s]+", super().clean(value).strip(", ")) if word]
        return {variable: name if sign else variable for variable, sign, name in words}


class TasksField(AnyModelMultipleChoiceField):
    """Tasks by name, with their project where there may be several."""

    def label_from_instance(self, task: Any) -> str:
        return f"{task.project.name} / {task.name}"


class SecretForm(forms.Form):
    """A secret, of one of `projects`, for `tasks` among which one can choose; `secret` is the one that is edited."""

    name = forms.CharField(
        label=_("Name"),
        max_length=64,
        widget=forms.TextInput(attrs={**MONO, "placeholder": "API_TOKEN"}),
        help_text=_("Capital letters, digits and underscores."),
    )
    project = forms.ModelChoiceField(label=_("Project"), queryset=Project.objects.none(), empty_label=None)
    description = forms.CharField(label=_("Description"), required=False, max_length=1000)
    value = WriteOnlyField(label=_("Value"), required=False)
    whole_project = forms.BooleanField(label=_("For every task of the project"), required=False, initial=True)
    tasks = TasksField(
        label=_("Only for these tasks"),
        required=False,
        queryset=Task.objects.none(),
        help_text=_("Where it is not for every task."),
    )

    def __init__(
        self, *args: Any, projects: QuerySet[Project], tasks: QuerySet[Task], secret: Secret | None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]
        field = self.fields["tasks"]
        field.queryset = tasks.select_related("project")  # type: ignore[attr-defined]
        field.widget.attrs["size"] = 6
        value = self.fields["value"]
        value.required = secret is None
        value.help_text = (
            _("Up to 64 KiB of text. Nobody can read it again.")
            if secret is None
            else _("Leave it empty to keep the value that it has.")
        )
        if secret is not None:
            self.fields["name"].disabled = self.fields["project"].disabled = True

    def values(self) -> dict[str, Any]:
        """The fields for the service."""
        given = self.cleaned_data
        fields = {name: given[name] for name in ("name", "project", "description")}
        fields["tasks"] = None if given["whole_project"] else list(given["tasks"])
        return fields if given["value"] is None else {**fields, "value": given["value"]}

    @staticmethod
    def values_of(secret: Secret) -> dict[str, Any]:
        """What the form shows of a secret that exists."""
        shown = {name: getattr(secret, name) for name in ("name", "project", "description", "whole_project")}
        return {**shown, "tasks": [task.pk for task in secret.tasks.all()]}
