"""The form of runtime settings: a field for each of them, empty for its default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from access_app.runtime_services import Shown
from console_app.forms import MONO


class SettingsForm(forms.Form):
    """What is typed for each setting. Only what differs from what is shown is a change."""

    def __init__(self, typed: Any, shown: Sequence[Shown], *, disabled: bool = False) -> None:
        self._shown = shown
        super().__init__(typed, initial={one.setting.name: "" if one.row is None else one.value for one in shown})
        for one in shown:
            self.fields[one.setting.name] = _field(one)
            self.fields[one.setting.name].disabled = disabled

    def changes(self) -> dict[str, Any]:
        """The settings that were changed, None where the default is to come back."""
        given = {name: self.cleaned_data[name] for name in self.changed_data}
        return {name: None if value in ("", None) else value for name, value in given.items()}


def _field(shown: Shown) -> forms.Field:
    setting = shown.setting
    help_text = f"{setting.help} {_('Default: %(value)s.') % {'value': shown.default}}"
    common: dict[str, Any] = {"label": setting.label, "help_text": help_text, "required": False}
    if setting.kind is str:
        return forms.CharField(widget=forms.TextInput(attrs=MONO), **common)
    kind = forms.IntegerField if setting.kind is int else forms.FloatField
    bounds: dict[str, Any] = {"min_value": setting.least, "max_value": setting.most}
    return kind(**common, **{name: bound for name, bound in bounds.items() if math.isfinite(bound)})
