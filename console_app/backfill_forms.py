"""The form of a backfill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from access_app.json_text import JSONFault, loads
from console_app.forms import MONO, ZonedTimeField
from tasks_app.models import Schedule
from tasks_app.models.backfill import Reprocess
from tasks_app.services.backfills import MOST_CONCURRENT, Wish

ORDERS = (("oldest", _("oldest first")), ("newest", _("newest first")))


class BackfillForm(forms.Form):
    """Which instants to run, and how many at once. Times are typed in UTC."""

    schedule = forms.ChoiceField(label=_("Schedule"))
    reprocess = forms.ChoiceField(
        label=_("Run again"),
        choices=Reprocess.choices,
        initial=Reprocess.NONE,
        help_text=_("Which instants that have a run get another one."),
    )
    order = forms.ChoiceField(label=_("Order"), choices=ORDERS, initial="oldest")
    max_concurrent = forms.IntegerField(label=_("Runs at once"), initial=1, min_value=1, max_value=MOST_CONCURRENT)
    params = forms.CharField(
        label=_("Parameters"),
        required=False,
        widget=forms.Textarea(attrs={**MONO, "rows": 3}),
        help_text=_("A JSON object; names that are left out keep the value of the task."),
    )

    def __init__(self, schedules: Sequence[Schedule], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._schedules = {str(schedule.pk): schedule for schedule in schedules}
        self.fields["schedule"].choices = [(key, str(one)) for key, one in self._schedules.items()]  # type: ignore[attr-defined]
        # Named as the service names them in its errors; `from` cannot be an attribute of a class body.
        times = {
            "from": ZonedTimeField(label=_("From (UTC)"), help_text=_("Inclusive.")),
            "to": ZonedTimeField(label=_("Until (UTC)"), help_text=_("Inclusive; not in the future.")),
        }
        self.fields = {"schedule": self.fields["schedule"], **times, **self.fields}

    def clean_params(self) -> dict[str, Any]:
        text = self.cleaned_data["params"].strip()
        try:
            params = loads(text) if text else {}
        except JSONFault as fault:
            raise forms.ValidationError(str(fault)) from fault
        if not isinstance(params, dict):
            raise forms.ValidationError(_("Parameters are an object of names and values."))
        return params

    def wish(self) -> Wish:
        """What a valid form wishes for."""
        values = self.cleaned_data
        return Wish(
            start=values["from"],
            end=values["to"],
            schedule=self._schedules[values["schedule"]],
            reprocess=values["reprocess"],
            newest_first=values["order"] == "newest",
            max_concurrent=values["max_concurrent"],
            params=values["params"],
        )


def params_text(params: dict[str, Any]) -> str:
    """Parameters as the page shows them."""
    return json.dumps(params, indent=2, ensure_ascii=False) if params else ""
