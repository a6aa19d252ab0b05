"""What may stand in requests about a run that exists."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from access_app.api.fields import ChoiceField, IntegerField, StrictSerializer
from tasks_app.api.bodies import MAX_INT
from tasks_app.services.quarantine import Release


class RerunBody(StrictSerializer):
    scope = ChoiceField(
        choices=[("run", "run"), ("failed", "failed")],
        default="run",
        help_text=_("`run`: this one. `failed`: of all that was planned with it what failed, and all below."),
    )


class ReleaseBody(StrictSerializer):
    how = ChoiceField(choices=Release.choices, default=Release.AS_IS.value)
    memory_limit_mb = IntegerField(min_value=1, max_value=MAX_INT, allow_null=True, default=None)


class AttemptQuery(serializers.Serializer[Any]):
    attempt = serializers.IntegerField(min_value=1, max_value=32767, default=None, allow_null=True)


class LogQuery(AttemptQuery):
    offset = serializers.IntegerField(min_value=0, max_value=10**9, default=0)
    limit = serializers.IntegerField(min_value=1, max_value=5000, default=1000)
    search = serializers.CharField(
        max_length=200, default="", allow_blank=True, trim_whitespace=False, help_text=_("Only lines that hold this.")
    )
