"""What may stand in the bodies of requests about dependencies."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from access_app.api.fields import ChoiceField, IntegerField, StrictSerializer, TextField
from tasks_app.api.bodies import id_field
from tasks_app.periods import PeriodPolicy, Unit
from tasks_app.services.dependencies import MOST_PERIODS_BACK


class DependencyEditBody(StrictSerializer):
    condition = TextField(
        max_length=1000,
        allow_blank=True,
        required=False,
        help_text=_("Over `state reason exit_code attempt output params` of the upstream run; empty = none."),
    )
    period = ChoiceField(
        choices=[(unit.value, unit.value) for unit in Unit],
        allow_null=True,
        required=False,
        help_text=_(
            "A dependency by period: it waits for the last run of the upstream task in this period of its nominal time."
            " null = an ordinary one."
        ),
    )
    period_back = IntegerField(
        min_value=0,
        max_value=MOST_PERIODS_BACK,
        required=False,
        help_text=_("0: the same period; 1: the period before."),
    )
    period_policy = ChoiceField(
        choices=[(policy.value, policy.value) for policy in PeriodPolicy],
        required=False,
        help_text=_("Without a success in the period: `wait` for one, or `fail` as upstream_failed."),
    )

    def validate_period(self, value: str | None) -> str:
        return value or ""


class DependencyBody(DependencyEditBody):
    upstream = id_field()
    downstream = id_field()
