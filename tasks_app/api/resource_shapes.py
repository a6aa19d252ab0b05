"""How resources look in answers."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from access_app.api.fields import InstantField


class BreakerSerializer(serializers.Serializer[Any]):
    state = serializers.CharField(
        source="breaker_state",
        help_text="`closed`: all may start; `open`: it has tripped, nothing starts; `half_open`: it tries again.",
    )
    changed_at = InstantField(source="breaker_changed_at", allow_null=True)
    open_until = InstantField(source="breaker_open_until", allow_null=True)
    failures_in_a_row = serializers.IntegerField(source="breaker_failures_in_a_row")
    openings = serializers.IntegerField(
        source="breaker_openings", help_text="How often it has tripped since it was last closed."
    )


class ResourceSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    capacity = serializers.IntegerField(allow_null=True)
    rate_limit = serializers.IntegerField(allow_null=True)
    rate_window_seconds = serializers.IntegerField(allow_null=True)
    calendar = serializers.IntegerField(source="calendar_id", allow_null=True)
    breaker_failures = serializers.IntegerField(allow_null=True)
    breaker_ratio = serializers.FloatField(allow_null=True)
    breaker_window = serializers.IntegerField()
    breaker_minimum = serializers.IntegerField()
    breaker_open_seconds = serializers.IntegerField()
    breaker_open_seconds_at_most = serializers.IntegerField()
    breaker = BreakerSerializer(source="*", help_text="Where it is now; it moves only where a rule is set.")
    in_use = serializers.SerializerMethodField(help_text="What queued and running runs take of it.")
    held_runs = serializers.SerializerMethodField(help_text="Due runs that wait for its breaker.")

    def get_in_use(self, resource: Any) -> int:
        return int(self.context.get("in_use", {}).get(resource.pk, 0))

    def get_held_runs(self, resource: Any) -> int:
        return int(self.context.get("held", {}).get(resource.pk, 0))
