"""The forms of the admin pages of the core; how they write: access_app.admin_forms."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from access_app.admin_forms import ServiceForm
from access_app.json_text import JSONFault, is_too_deep, loads
from tasks_app import executors
from tasks_app.errors import InvalidInput
from tasks_app.models import Calendar, Project, Schedule, Task, TaskDependency, TaskVersion
from tasks_app.models.schedule import CalendarAction
from tasks_app.retry import POISON_LIMIT
from tasks_app.routing import Routing
from tasks_app.services import calendars, dependencies, projects, schedules, tasks
from tasks_app.services.task_resources import amounts_of
from tasks_app.texts import storable_json


class _StrictDecoder(json.JSONDecoder):
    """JSON as every other door reads it, without halves of surrogate pairs: no database and no page takes these."""

    def decode(self, s: str, *_args: Any) -> Any:
        try:
            value = loads(s)
        except JSONFault as fault:
            raise json.JSONDecodeError(fault.problem, s, 0) from fault
        if is_too_deep(value) or storable_json(value) != value:
            raise json.JSONDecodeError("characters that cannot be stored", s, 0)
        return value


class TaskForm(ServiceForm):
    """A task with the fields of its current version; a change of these adds a version."""

    executor = forms.ChoiceField(label=_("executor"), choices=[(name, name) for name in executors.EXECUTORS])
    command = forms.CharField(label=_("command"), widget=forms.Textarea(attrs={"rows": 4, "cols": 80}), strip=False)
    params = forms.JSONField(
        label=_("parameters"), required=False, initial=dict, decoder=_StrictDecoder, help_text=_("A JSON object.")
    )
    secrets = forms.JSONField(
        label=_("secrets"),
        required=False,
        initial=dict,
        decoder=_StrictDecoder,
        help_text=_("A JSON object: names of secrets by the variable that a run gets each in."),
    )
    timeout_seconds = forms.IntegerField(label=_("timeout in seconds"), initial=3600, min_value=1)
    retry_count = forms.IntegerField(label=_("retries"), initial=0, min_value=0)
    retry_delay_seconds = forms.IntegerField(label=_("first retry after seconds"), initial=10, min_value=0)
    retry_cap_seconds = forms.IntegerField(label=_("longest retry delay in seconds"), initial=3600, min_value=1)
    retry_jitter = forms.BooleanField(label=_("spread retries"), required=False, initial=True)
    never_retry = forms.JSONField(
        label=_("never retry"),
        required=False,
        initial=dict,
        decoder=_StrictDecoder,
        help_text=_("A JSON object: exit_codes, exceptions, statuses."),
    )
    retry_budget_seconds = forms.IntegerField(label=_("retry for at most seconds"), required=False, min_value=1)
    retry_on_lost = forms.BooleanField(label=_("rerun when its worker is lost"), required=False)
    poison_limit = forms.IntegerField(label=_("quarantine after dead workers"), initial=POISON_LIMIT, min_value=1)
    memory_limit_mb = forms.IntegerField(label=_("memory limit in MB"), required=False, min_value=1)
    cpu_limit_seconds = forms.IntegerField(label=_("processor time limit in seconds"), required=False, min_value=1)
    open_files_limit = forms.IntegerField(label=_("open files limit"), required=False, min_value=1)
    amounts = forms.JSONField(
        label=_("resources"),
        required=False,
        initial=dict,
        decoder=_StrictDecoder,
        help_text=_("A JSON object: how much a run takes of each resource, by its name."),
    )

    class Meta:
        model = Task
        fields = tasks.TASK_FIELDS

    def __init__(self, *args: Any, **options: Any) -> None:
        instance = options.get("instance")
        if instance is not None and isinstance(version := instance.version, TaskVersion):
            current = {name: getattr(version, name) for name in tasks.VERSION_FIELDS}
            current["amounts"] = amounts_of(instance)
            options["initial"] = current | (options.get("initial") or {})
        super().__init__(*args, **options)
        if "routing" in self.fields:
            self.fields["routing"].required = False

    def clean_routing(self) -> str:
        return self.cleaned_data["routing"] or Routing.ANY.value

    def clean_routing_workers(self) -> Any:
        workers = self.cleaned_data["routing_workers"]
        return [] if workers is None else workers

    def clean_tags(self) -> Any:
        tags = self.cleaned_data["tags"]
        return [] if tags is None else tags

    def clean_command(self) -> str:
        # Browsers send line ends as CRLF; a shell would take the CR for a part of the command.
        return str(self.cleaned_data["command"]).replace("\r\n", "\n")

    def clean_params(self) -> Any:
        params = self.cleaned_data["params"]
        return {} if params is None else params

    def clean_secrets(self) -> Any:
        names = self.cleaned_data["secrets"]
        return {} if names is None else names

    def clean_never_retry(self) -> Any:
        rules = self.cleaned_data["never_retry"]
        return {} if rules is None else rules

    def clean_amounts(self) -> Any:
        amounts = {} if self.cleaned_data["amounts"] is None else self.cleaned_data["amounts"]
        whole = isinstance(amounts, dict) and all(type(amount) is int for amount in amounts.values())
        if not whole:
            raise ValidationError(_("Give an object of names and whole numbers."))
        return amounts

    def changes(self) -> dict[str, Any]:
        fields = super().changes()
        return {"resources" if name == "amounts" else name: value for name, value in fields.items()}

    def write(self) -> Task:
        try:
            if self.instance.pk is None:
                return tasks.create(self.actor, self.changes(), now=timezone.now())
            saved = Task.objects.select_related("version", "project", "pool").get(pk=self.instance.pk)
            return tasks.update(self.actor, saved, self.changes(), now=timezone.now())
        except InvalidInput as error:
            if "resources" not in error.errors:
                raise
            raise InvalidInput(amounts=error.errors["resources"]) from error


class ScheduleForm(ServiceForm):
    """A schedule; its task is chosen once."""

    class Meta:
        model = Schedule
        fields = ("task", *schedules.FIELDS)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in self.fields.keys() & {"jitter_seconds", "calendar_action"}:
            self.fields[name].required = False

    def clean_jitter_seconds(self) -> int:
        return self.cleaned_data["jitter_seconds"] or 0

    def clean_calendar_action(self) -> str:
        return self.cleaned_data["calendar_action"] or str(CalendarAction.SKIP)

    def write(self) -> Schedule:
        fields = self.changes()
        if self.instance.pk is None:
            return schedules.create(self.actor, fields.pop("task"), fields, now=timezone.now())
        saved = Schedule.objects.select_related("task").get(pk=self.instance.pk)
        return schedules.update(self.actor, saved, fields, now=timezone.now())


class CalendarForm(ServiceForm):
    """A calendar; its project is chosen once, or none: then all share it."""

    document = forms.JSONField(
        label=_("rules"),
        required=False,
        initial=dict,
        decoder=_StrictDecoder,
        help_text=_("A JSON object: time_zone, allowed, blackout."),
    )
    holidays = forms.JSONField(
        label=_("public holidays"),
        required=False,
        initial=list,
        decoder=_StrictDecoder,
        help_text=_("A JSON list of objects: country, subdivision, name."),
    )

    class Meta:
        model = Calendar
        fields = ("project", *calendars.FIELDS)

    def clean_document(self) -> Any:
        document = self.cleaned_data["document"]
        return {} if document is None else document

    def clean_holidays(self) -> Any:
        holidays = self.cleaned_data["holidays"]
        return [] if holidays is None else holidays

    def write(self) -> Calendar:
        fields = self.changes()
        if "includes" in fields:
            fields["includes"] = list(fields["includes"])
        if self.instance.pk is None:
            return calendars.create(self.actor, fields, now=timezone.now())
        saved = Calendar.objects.select_related("project").get(pk=self.instance.pk)
        return calendars.update(self.actor, saved, fields, now=timezone.now())

    def _save_m2m(self) -> None:
        """The service has written what it includes."""


class DependencyForm(ServiceForm):
    """An edge between two tasks; its ends are chosen once."""

    class Meta:
        model = TaskDependency
        fields = ("upstream", "downstream", *dependencies.EDGE_FIELDS)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("period_back", "period_policy"):
            self.fields[name].required = False

    def changes(self) -> dict[str, Any]:
        # These two have defaults; left empty they are not part of the edit.
        given = super().changes()
        return {k: v for k, v in given.items() if k not in ("period_back", "period_policy") or v not in (None, "")}

    def write(self) -> TaskDependency:
        fields = self.changes()
        if self.instance.pk is None:
            upstream, downstream = fields.pop("upstream"), fields.pop("downstream")
            return dependencies.create(self.actor, upstream, downstream, fields, now=timezone.now())
        saved = TaskDependency.objects.select_related("upstream", "downstream").get(pk=self.instance.pk)
        return dependencies.update(self.actor, saved, fields, now=timezone.now())


class ProjectForm(ServiceForm):
    """A project; it is made here, roles in it are given by `manage.py grant_role`."""

    class Meta:
        model = Project
        fields = ("name", "description")

    def write(self) -> Project:
        return projects.create(self.actor, **self.changes(), now=timezone.now())
