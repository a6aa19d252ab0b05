"""What may stand in request bodies. Types and sizes are checked here, meaning by the services."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access_app.api.fields import (
    BooleanField,
    ChoiceField,
    InstantField,
    IntegerField,
    ObjectField,
    StrictSerializer,
    TextField,
)
from tasks_app.api.routing_fields import RoutingBody
from tasks_app.api.secret_bodies import SecretNamesField
from tasks_app.api.shapes import _PRIORITY
from tasks_app.dependencies import TriggerRule
from tasks_app.errors import InvalidInput
from tasks_app.models.schedule import CalendarAction, CatchUp, GapPolicy, RepeatPolicy, ScheduleKind
from tasks_app.models.task import Overlap, PauseMode
from tasks_app.services.runs import priority_number

MAX_INT = 2**31 - 1
MAX_SMALL = 2**15 - 1
MAX_ID = 2**63 - 1


@extend_schema_field(_PRIORITY)
class PriorityField(serializers.Field[Any, Any, Any, Any]):
    """low, normal, high, critical or a number from 0 to 100."""

    default_error_messages = {
        "invalid": _("Priority is a number from 0 to 100, or one of: low, normal, high, critical.")
    }

    def to_internal_value(self, data: Any) -> int | None:
        try:
            return priority_number(data)
        except InvalidInput:
            self.fail("invalid")


def id_field(**options: Any) -> IntegerField:
    return IntegerField(min_value=1, max_value=MAX_ID, **options)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MAX_SMALL}},
            {"type": "array", "items": {"type": "string"}},
        ]
    }
)
class AmountsField(serializers.Field[Any, Any, Any, Any]):
    """Resources by name, with the amount of each: an object, or a list of names for 1 of each."""

    default_error_messages = {
        "invalid": _("Give an object of names and amounts, or a list of names."),
        "amount": _("The amount of {name} must be a whole number from 1 to 32767."),
    }

    def to_internal_value(self, data: Any) -> dict[str, int]:
        if isinstance(data, list) and all(isinstance(name, str) for name in data):
            return dict.fromkeys(data, 1)
        if not isinstance(data, dict):
            self.fail("invalid")
        for name, amount in data.items():
            if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= MAX_SMALL:
                self.fail("amount", name=name[:50])
        return data


class TaskBody(RoutingBody):
    name = TextField(max_length=200)
    project = TextField(max_length=100, required=False, help_text=_("Name of the project; default: `default`."))
    description = TextField(max_length=20_000, allow_blank=True, required=False, trim_whitespace=False)
    task_type = TextField(max_length=50, allow_blank=True, required=False)
    tags = serializers.ListField(child=TextField(max_length=50), max_length=20, required=False)
    executor = TextField(max_length=20, help_text="`shell`, `python`, `callable` or `http`.")
    command = TextField(max_length=100_000, allow_blank=True, trim_whitespace=False)
    params = ObjectField(required=False)
    secrets = SecretNamesField(
        required=False,
        help_text=_("Secrets of the project by the variable that a run gets each in, or a list."),
    )
    schedule = TextField(
        max_length=256,
        allow_null=True,
        allow_blank=True,
        required=False,
        help_text=_("A cron expression: the short form for one schedule. null = none."),
    )
    priority = PriorityField(required=False)
    retry_count = IntegerField(min_value=0, max_value=MAX_INT, required=False)
    retry_delay_seconds = IntegerField(min_value=0, max_value=MAX_INT, required=False)
    retry_cap_seconds = IntegerField(min_value=1, max_value=MAX_INT, required=False)
    retry_jitter = BooleanField(required=False)
    never_retry = ObjectField(
        required=False, help_text=_("Failures that are final: `exit_codes`, `exceptions`, `statuses` (404, 4xx).")
    )
    retry_budget_seconds = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    retry_on_lost = BooleanField(required=False)
    poison_limit = IntegerField(min_value=1, max_value=MAX_SMALL, required=False)
    memory_limit_mb = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    cpu_limit_seconds = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    open_files_limit = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    timeout_seconds = IntegerField(min_value=1, max_value=MAX_INT, required=False)
    overlap = ChoiceField(choices=Overlap.choices, required=False)
    max_concurrent = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    weight = IntegerField(min_value=1, max_value=MAX_SMALL, required=False)
    concurrency_key = TextField(
        max_length=200, allow_blank=True, required=False, help_text=_("Runs of one key share a limit: a macro.")
    )
    max_concurrent_per_key = IntegerField(min_value=1, max_value=MAX_INT, required=False)
    rate_limit = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    rate_window_seconds = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    start_deadline_seconds = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    auto_pause_after = IntegerField(min_value=1, max_value=MAX_SMALL, allow_null=True, required=False)
    trigger_rule = ChoiceField(choices=[(rule.value, rule.value) for rule in TriggerRule], required=False)
    pool = TextField(max_length=50, required=False, help_text=_("Name of the pool; default: `default`."))
    resources = AmountsField(
        required=False, help_text=_("What a run takes of shared resources: `{name: amount}`, or a list of names.")
    )


class PauseBody(StrictSerializer):
    reason = TextField(max_length=500, allow_blank=True, default="")
    until = InstantField(allow_null=True, default=None, help_text=_("null: until it is resumed."))
    mode = ChoiceField(
        choices=PauseMode.choices,
        default=PauseMode.DROP.value,
        help_text=_(
            "drop: nothing starts, instants are skipped. queue: they become runs, which wait. "
            "drain: what waits is done, nothing new is taken."
        ),
    )


class EmptyBody(StrictSerializer):
    """Nothing to say."""


class TriggerBody(StrictSerializer):
    params = ObjectField(default=dict)
    priority = PriorityField(allow_null=True, default=None)
    idempotency_key = TextField(max_length=200, allow_null=True, default=None, trim_whitespace=False)
    not_before = InstantField(allow_null=True, default=None)


class TriggerBatchBody(StrictSerializer):
    items = TriggerBody(many=True, help_text=_("Up to 10,000."))


class BatchAnswer(serializers.Serializer[Any]):
    created = serializers.IntegerField(help_text="How many runs are new; a repeated idempotency key gives its old run.")
    ids = serializers.ListField(child=serializers.IntegerField(), help_text="Run ids in the order of the items.")


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string"}], "nullable": True})
class CalendarField(serializers.Field[Any, Any, Any, Any]):
    """A calendar by its id or its name."""

    default_error_messages = {"invalid": _("Give the id or the name of a calendar.")}

    def to_internal_value(self, data: Any) -> int | str:
        if isinstance(data, bool) or not isinstance(data, int | str) or not data:
            self.fail("invalid")
        return data


class ScheduleBody(StrictSerializer):
    kind = ChoiceField(choices=ScheduleKind.choices, required=False, help_text=_("Default: cron."))
    expression = TextField(max_length=256, allow_blank=True, required=False)
    interval_seconds = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    at = InstantField(allow_null=True, required=False)
    time_zone = TextField(max_length=64, required=False, help_text=_("IANA name."))
    dst_gap = ChoiceField(choices=GapPolicy.choices, required=False)
    dst_repeat = ChoiceField(choices=RepeatPolicy.choices, required=False)
    start_at = InstantField(allow_null=True, required=False)
    end_at = InstantField(allow_null=True, required=False)
    catch_up = ChoiceField(choices=CatchUp.choices, required=False)
    catch_up_window_seconds = IntegerField(min_value=0, max_value=MAX_INT, required=False)
    max_catch_up = IntegerField(min_value=1, max_value=10_000, required=False)
    jitter_seconds = IntegerField(
        min_value=0, max_value=MAX_INT, required=False, help_text=_("Runs are spread over so many seconds.")
    )
    calendar = CalendarField(
        allow_null=True,
        required=False,
        help_text=_("The id or the name of a calendar; of two of one name that of the project is meant. null = none."),
    )
    calendar_action = ChoiceField(choices=CalendarAction.choices, required=False)
    start_deadline_seconds = IntegerField(
        min_value=1,
        max_value=MAX_INT,
        allow_null=True,
        required=False,
        help_text=_("A run that has not started so long after it was due expires. null = as the task says."),
    )
    enabled = BooleanField(required=False)
    note = TextField(max_length=500, allow_blank=True, required=False)


class PreviewBody(ScheduleBody):
    after = InstantField(required=False, help_text=_("Default: now."))
    count = IntegerField(min_value=1, max_value=200, default=5)
    task = id_field(required=False, help_text=_("The task whose name spreads `H`."))


class HolidaysBody(StrictSerializer):
    country = TextField(max_length=2, help_text=_("ISO 3166-1, such as DE."))
    subdivision = TextField(max_length=10, allow_blank=True, required=False, help_text=_("ISO 3166-2, such as BY."))
    name = TextField(max_length=100, allow_blank=True, required=False)


class CalendarEditBody(StrictSerializer):
    name = TextField(max_length=100)
    description = TextField(max_length=20_000, allow_blank=True, required=False)
    document = ObjectField(required=False, help_text=_("`time_zone`, `allowed` and `blackout`: see docs/schedules.md."))
    holidays = HolidaysBody(many=True, required=False, help_text=_("Public holidays, which are blacked out."))
    includes = serializers.ListField(
        child=id_field(), required=False, help_text=_("Ids of calendars whose rules count as well.")
    )


class CalendarBody(CalendarEditBody):
    project = TextField(
        max_length=100, allow_null=True, required=False, help_text=_("Name of the project; null: shared by all.")
    )


class CheckQuery(serializers.Serializer[Any]):
    at = InstantField(required=False, help_text=_("Default: now."))


class ProjectBody(StrictSerializer):
    name = TextField(max_length=100)
    description = TextField(max_length=20_000, allow_blank=True, default="")


class PoolBody(StrictSerializer):
    name = TextField(max_length=50)
    slots = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    description = TextField(max_length=20_000, allow_blank=True, required=False)


class PoolEditBody(StrictSerializer):
    slots = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    description = TextField(max_length=20_000, allow_blank=True, required=False)


class UpcomingQuery(serializers.Serializer[Any]):
    count = serializers.IntegerField(min_value=1, max_value=200, default=10)
