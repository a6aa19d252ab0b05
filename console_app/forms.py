"""Forms: what people type, parsed. What it means, and whether it may be, services decide."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.utils.translation import gettext_lazy as _

from access_app.json_text import JSONFault, loads
from tasks_app.errors import InvalidInput
from tasks_app.models.task import PauseMode

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
