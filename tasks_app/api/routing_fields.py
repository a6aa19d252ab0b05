"""How tasks say over the API to which workers their runs go."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from access_app.api.fields import ChoiceField, IntegerField, StrictSerializer, TextField
from tasks_app.routing import LONGEST_NAME, MOST_SHARDS, MOST_WORKERS, Routing


class RoutingBody(StrictSerializer):
    routing = ChoiceField(choices=Routing.choices, required=False, help_text=_("Which worker of the pool takes a run."))
    routing_key = TextField(
        max_length=100,
        allow_blank=True,
        required=False,
        help_text=_("For `consistent_hash`: the parameter whose value is the key; empty = the concurrency key."),
    )
    routing_workers = serializers.ListField(
        child=TextField(max_length=LONGEST_NAME),
        max_length=MOST_WORKERS,
        required=False,
        help_text=_("Names of workers: one for `specific`, in their order for `failover`."),
    )
    shards = IntegerField(
        min_value=1, max_value=MOST_SHARDS, allow_null=True, required=False, help_text=_("For `shards`: how many runs.")
    )
    required_labels = TextField(
        max_length=500,
        allow_blank=True,
        required=False,
        help_text=_("What a worker must have, such as `gpu and zone in (a, b) and mem >= 16`."),
    )


class RoutingShape(serializers.Serializer[Any]):
    routing = serializers.CharField()
    routing_key = serializers.CharField()
    routing_workers = serializers.ListField(child=serializers.CharField())
    shards = serializers.IntegerField(allow_null=True)
    required_labels = serializers.CharField()


class PlaceShape(serializers.Serializer[Any]):
    """Where a run goes, and which part of which run it is."""

    target = serializers.UUIDField(
        source="target_id",
        allow_null=True,
        help_text="The worker to which alone it was sent; null: to all of its pool.",
    )
    shard_of = serializers.IntegerField(source="shard_of_id", allow_null=True)
    shard_index = serializers.IntegerField(allow_null=True, help_text="Counted from 0; null: it stands alone.")
    shard_total = serializers.IntegerField(allow_null=True)
