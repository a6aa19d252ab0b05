"""The forms of schedules and calendars: what people type, parsed."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from console_app.forms import MONO, ParamsField, ZonedTimeField
from tasks_app.models import Calendar, Project
from tasks_app.models.schedule import CalendarAction, CatchUp, GapPolicy, RepeatPolicy, Schedule, ScheduleKind
from tasks_app.services import calendars, schedules

_PLACE = re.compile(r"([A-Za-z]{2})(?:-([A-Za-z0-9]{1,10}))?", re.ASCII)


class ScheduleForm(forms.Form):
    """One schedule of a task. Times are typed in UTC, the rule is read in its own zone."""

    kind = forms.ChoiceField(label=_("Kind"), choices=ScheduleKind.choices, initial=ScheduleKind.CRON)
    expression = forms.CharField(
        label=_("Cron expression"),
        required=False,
        max_length=256,
        widget=forms.TextInput(attrs={**MONO, "placeholder": "0 2 * * *"}),
        help_text=_("minute hour day month weekday; for the kind cron"),
    )
    interval_seconds = forms.IntegerField(
        label=_("Interval in seconds"),
        required=False,
        min_value=1,
        help_text=_("For the kinds interval and fixed delay, which counts from the end of the last run"),
    )
    at = ZonedTimeField(label=_("At (UTC)"), required=False, help_text=_("For the kind once"))
    time_zone = forms.CharField(
        label=_("Time zone"), max_length=64, widget=forms.TextInput(attrs={**MONO, "list": "zones"})
    )
    start_at = ZonedTimeField(label=_("From (UTC)"), required=False)
    end_at = ZonedTimeField(label=_("Until (UTC)"), required=False)
    calendar = forms.ModelChoiceField(
        label=_("Calendar"), queryset=Calendar.objects.none(), required=False, empty_label=_("none: at all times")
    )
    calendar_action = forms.ChoiceField(
        label=_("Outside the calendar"), choices=CalendarAction.choices, initial=CalendarAction.SKIP, required=False
    )
    jitter_seconds = forms.IntegerField(
        label=_("Jitter in seconds"),
        required=False,
        min_value=0,
        help_text=_("A run starts up to so much later; the delay of an instant is always the same."),
    )
    start_deadline_seconds = forms.IntegerField(
        label=_("Start deadline in seconds"),
        required=False,
        min_value=1,
        help_text=_("A run that still waits then expires. Empty: as the task says."),
    )
    catch_up = forms.ChoiceField(
        label=_("Catch up"),
        choices=CatchUp.choices,
        initial=CatchUp.LAST,
        help_text=_("Which instants become runs that passed while nothing could fire."),
    )
    catch_up_window_seconds = forms.IntegerField(label=_("Catch-up window in seconds"), initial=3600, min_value=0)
    max_catch_up = forms.IntegerField(label=_("Most runs to catch up"), initial=100, min_value=0)
    dst_gap = forms.ChoiceField(
        label=_("When the time is skipped"), choices=GapPolicy.choices, initial=GapPolicy.RUN_AFTER
    )
    dst_repeat = forms.ChoiceField(
        label=_("When the time comes twice"), choices=RepeatPolicy.choices, initial=RepeatPolicy.FIRST
    )
    note = forms.CharField(label=_("Note"), required=False, max_length=500)
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)
    etag = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, calendars: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["calendar"].queryset = calendars  # type: ignore[attr-defined]

    def clean_jitter_seconds(self) -> int:
        return self.cleaned_data["jitter_seconds"] or 0

    def clean_calendar_action(self) -> str:
        return self.cleaned_data["calendar_action"] or str(CalendarAction.SKIP)

    def values(self) -> dict[str, Any]:
        """The fields for the service."""
        return {name: value for name, value in self.cleaned_data.items() if name != "etag"}

    @staticmethod
    def values_of(schedule: Schedule) -> dict[str, Any]:
        """What the form shows of a schedule that exists."""
        return {name: getattr(schedule, name) for name in schedules.FIELDS} | {"etag": schedules.etag(schedule)}


class HolidaysField(forms.CharField):
    """Countries and their subdivisions, as in `DE-BY, CN`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=forms.TextInput(attrs={**MONO, "placeholder": "DE-BY, CN"}), **options)

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) else ", ".join(_place_of(entry) for entry in value or ())

    def clean(self, value: Any) -> Any:
        places: list[dict[str, str]] = []
        for text in re.split(r"[,\s]+", super().clean(value)):
            found = _PLACE.fullmatch(text)
            if found:
                country, subdivision = found.groups()
                places.append({"country": country.upper()} | ({"subdivision": subdivision} if subdivision else {}))
            elif text:
                raise forms.ValidationError(_("Write countries as in DE-BY, CN."), code="invalid")
        return places


class CalendarForm(forms.Form):
    """A calendar: its rules as a JSON document, public holidays, and the calendars that it includes."""

    name = forms.CharField(label=_("Name"), max_length=100)
    project = forms.ModelChoiceField(
        label=_("Project"), queryset=Project.objects.none(), required=False, empty_label=_("shared by all projects")
    )
    description = forms.CharField(
        label=_("Description"), required=False, max_length=20_000, widget=forms.Textarea(attrs={"rows": 2})
    )
    document = ParamsField(
        label=_("Rules"),
        required=False,
        widget=forms.Textarea(attrs={**MONO, "rows": 14}),
        help_text=_("A JSON object: time_zone, allowed, blackout. Blackout wins; without allowed all times are open."),
    )
    holidays = HolidaysField(
        label=_("Public holidays"), required=False, max_length=500, help_text=_("They are blacked out.")
    )
    includes = forms.ModelMultipleChoiceField(
        label=_("Includes"),
        queryset=Calendar.objects.none(),
        required=False,
        help_text=_("The rules of these calendars count as well."),
    )

    def __init__(self, *args: Any, projects: Any, shared: bool, others: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        project: Any = self.fields["project"]
        project.queryset, project.required = projects, not shared
        if not shared:
            project.empty_label = None
        self.fields["includes"].queryset = others  # type: ignore[attr-defined]

    def values(self, calendar: Calendar | None = None) -> dict[str, Any]:
        """The fields for the service; holidays that the calendar has already keep their names."""
        values = {**self.cleaned_data, "includes": list(self.cleaned_data["includes"])}
        named = {_place_of(entry): entry for entry in (calendar.holidays if calendar else ())}
        values["holidays"] = [named.get(_place_of(entry), entry) for entry in values["holidays"]]
        return values

    @staticmethod
    def values_of(calendar: Calendar) -> dict[str, Any]:
        """What the form shows of a calendar that exists."""
        shown: dict[str, Any] = {name: getattr(calendar, name) for name in calendars.COLUMNS}
        return shown | {"project": calendar.project, "includes": list(calendar.includes.all())}


def _place_of(entry: Any) -> str:
    country, subdivision = entry.get("country", ""), entry.get("subdivision")
    return f"{country}-{subdivision}" if subdivision else str(country)
