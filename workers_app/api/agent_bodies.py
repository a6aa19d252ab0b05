"""What agents send and hear. The text of the protocol: docs/agents.md."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access_app.api.fields import BooleanField, ChoiceField, IntegerField, StrictSerializer, TextField
from tasks_app.api.bodies import MAX_INT, MAX_SMALL
from workers_app import agent_reports, agents
from workers_app.jobs import Control
from workers_app.lines import MAX_OUTPUT_JSON

MOST_LINES = 5000
MAX_BIG = 2**63 - 1


class NumberField(serializers.FloatField):
    """A number; neither its text nor true."""

    def to_internal_value(self, data: Any) -> float:
        if not isinstance(data, int | float) or isinstance(data, bool):
            self.fail("invalid")
        return float(super().to_internal_value(data))


class RegisterBody(StrictSerializer):
    pool = TextField(max_length=50, default="", allow_blank=True, help_text=_("May be left out where the key has one."))
    name = TextField(max_length=200, default="", allow_blank=True, help_text=_("A name that lasts beyond a restart."))
    host = TextField(max_length=200, default="", allow_blank=True)
    pid = IntegerField(min_value=0, max_value=MAX_INT, default=0)
    slots = IntegerField(min_value=1, max_value=agents.MOST_SLOTS, default=1)
    labels = serializers.DictField(child=TextField(max_length=200, allow_blank=True), default=dict)
    executors = serializers.ListField(child=ChoiceField(choices=agents.EXECUTORS), max_length=10)
    code_version = TextField(max_length=50, default="", allow_blank=True)


class PaceAnswer(serializers.Serializer[Any]):
    state = serializers.CharField(help_text="online, cordoned: take nothing new; draining: finish and leave.")
    poll_seconds = serializers.FloatField(help_text="How long to wait before the next claim.")
    heartbeat_seconds = serializers.FloatField()
    lease_seconds = serializers.FloatField(help_text="From the sending of a heartbeat; then all runs must have ended.")


class RegisterAnswer(PaceAnswer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    pool = serializers.CharField()


class HeldBody(StrictSerializer):
    run = IntegerField(min_value=1, max_value=MAX_BIG)
    attempt = IntegerField(min_value=1, max_value=MAX_SMALL)


class ClaimBody(StrictSerializer):
    running = serializers.ListField(child=HeldBody(), max_length=2 * agents.MOST_SLOTS)


class HeartbeatBody(ClaimBody):
    draining = BooleanField(default=False)
    cpu_percent = NumberField(min_value=0, max_value=100, default=None, allow_null=True)
    memory_percent = NumberField(min_value=0, max_value=100, default=None, allow_null=True)
    memory_bytes = IntegerField(min_value=0, max_value=MAX_BIG, default=None, allow_null=True)


class EndAnswer(HeldBody):
    how = serializers.ChoiceField(
        choices=[Control.CANCEL, Control.KILL, Control.LOST],
        help_text="cancel: TERM, then KILL after the grace; kill: KILL; lost: KILL, and report nothing.",
    )


class HeartbeatAnswer(PaceAnswer):
    end = EndAnswer(many=True)


class RunAnswer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    attempt = serializers.IntegerField()
    task = serializers.CharField()
    executor = serializers.CharField(help_text="One of those that the agent offers.")
    command = serializers.CharField()
    environment = serializers.DictField(child=serializers.CharField())
    secrets = serializers.ListField(
        child=serializers.CharField(), help_text="Variables of the environment whose values no output may show."
    )
    timeout_seconds = serializers.FloatField()
    kill_grace_seconds = serializers.FloatField()
    output_bytes = serializers.IntegerField(help_text="How much of the output is kept: head and tail of this size.")
    line_bytes = serializers.IntegerField(help_text="How much of a line is kept.")


class ClaimAnswer(HeartbeatAnswer):
    runs = RunAnswer(many=True)


@extend_schema_field({"type": "array", "items": {}, "minItems": 3, "maxItems": 3})
class LineField(serializers.Field[Any, Any, Any, Any]):
    """[age in seconds, stream, text]."""

    default_error_messages = {
        "invalid": _("A line is [age in seconds, stream, text]; the streams are stdout, stderr and system.")
    }
    MOST_AGE = 30 * 24 * 3600

    def to_internal_value(self, data: Any) -> tuple[float, str, str]:
        if not isinstance(data, list) or len(data) != 3:
            self.fail("invalid")
        age, stream, text = data
        if not isinstance(age, int | float) or isinstance(age, bool) or not isinstance(text, str):
            self.fail("invalid")
        if stream not in agent_reports.STREAMS:
            self.fail("invalid")
        return min(max(float(age), 0.0), float(self.MOST_AGE)), stream, text


class LogBody(StrictSerializer):
    attempt = IntegerField(min_value=1, max_value=MAX_SMALL)
    offset = IntegerField(min_value=0, max_value=MAX_INT, help_text=_("The number of the first line, from 0."))
    lines = serializers.ListField(child=LineField(), max_length=MOST_LINES)
    truncated = BooleanField(default=False, help_text=_("The first line says how much was left out before it."))


class LogAnswer(serializers.Serializer[Any]):
    next_offset = serializers.IntegerField()


class FinishBody(StrictSerializer):
    attempt = IntegerField(min_value=1, max_value=MAX_SMALL)
    lines = IntegerField(min_value=0, max_value=MAX_INT, help_text=_("How many lines of output there are."))
    exit_code = IntegerField(
        min_value=-MAX_INT, max_value=MAX_INT, default=None, allow_null=True, help_text=_("Negative for a signal.")
    )
    ended_by = ChoiceField(
        choices=agent_reports.ENDINGS, default="", allow_blank=True, help_text=_("Empty: it ended by itself.")
    )
    failure = ChoiceField(
        choices=sorted(agent_reports.FAILURES), default="", allow_blank=True, help_text=_("Why it was never started.")
    )
    detail = TextField(max_length=1000, default="", allow_blank=True)
    last_line = TextField(
        max_length=MAX_OUTPUT_JSON,
        default="",
        allow_blank=True,
        trim_whitespace=False,
        help_text=_("The last line of stdout; an object or a list in it is the output of the run."),
    )


class FinishAnswer(serializers.Serializer[Any]):
    state = serializers.CharField(help_text="What the run is now; `waiting`: it is tried again.")
