"""What may stand in the bodies of requests about resources."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from access_app.api.fields import IntegerField, StrictSerializer, TextField
from tasks_app.api.bodies import MAX_INT, MAX_SMALL, id_field


class ResourceEditBody(StrictSerializer):
    description = TextField(max_length=20_000, allow_blank=True, required=False)
    capacity = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    rate_limit = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    rate_window_seconds = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, required=False)
    calendar = id_field(allow_null=True, required=False, help_text=_("Id of a shared calendar: its open hours."))
    breaker_failures = IntegerField(
        min_value=1,
        max_value=MAX_SMALL,
        allow_null=True,
        required=False,
        help_text=_("Its breaker trips after so many failed attempts in a row; null = not for that."),
    )
    breaker_ratio = serializers.FloatField(
        min_value=0.01,
        max_value=1,
        allow_null=True,
        required=False,
        help_text=_("Its breaker trips at this share of failed attempts; null = not for that."),
    )
    breaker_window = IntegerField(
        min_value=1, max_value=200, required=False, help_text=_("The last attempts that the share is taken of.")
    )
    breaker_minimum = IntegerField(
        min_value=1, max_value=200, required=False, help_text=_("Attempts that a share needs to say anything.")
    )
    breaker_open_seconds = IntegerField(
        min_value=1,
        max_value=MAX_INT,
        required=False,
        help_text=_("It stays tripped so long before it tries again; twice as long each time that it trips again."),
    )
    breaker_open_seconds_at_most = IntegerField(
        min_value=1, max_value=MAX_INT, required=False, help_text=_("It stays tripped no longer than this.")
    )


class ResourceBody(ResourceEditBody):
    name = TextField(max_length=50)
