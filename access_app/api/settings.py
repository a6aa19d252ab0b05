"""Runtime settings: what they are, and their change."""

from __future__ import annotations

import math
from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import runtime_services
from access_app.api.fields import IntegerField, StrictSerializer, TextField, instant
from access_app.api.views import ApiView
from access_app.runtime import LONGEST_TEXT, Setting, declared
from access_app.runtime_services import Shown

KINDS = {int: "integer", float: "number", str: "text"}
KIND_NAMES = sorted(KINDS.values())


class SettingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    value = serializers.JSONField(help_text="What holds now; the password in an address is hidden.")
    default = serializers.JSONField(help_text="What holds while nothing else is set.")
    is_default = serializers.BooleanField()
    kind = serializers.ChoiceField(choices=KIND_NAMES)
    least = serializers.FloatField(allow_null=True)
    most = serializers.FloatField(allow_null=True)
    label = serializers.CharField()  # type: ignore[assignment]  # the name of a field of ours and of DRF's Field
    help = serializers.CharField()
    updated_at = serializers.DateTimeField(allow_null=True)
    updated_by = serializers.CharField(help_text="Who set it; empty for a default.")


ANSWER = inline_serializer("Settings", {"results": SettingSerializer(many=True)})


class NumberField(serializers.FloatField):
    """A number; neither its text nor true."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(data)


def _field(setting: Setting[Any]) -> serializers.Field[Any, Any, Any, Any]:
    common: dict[str, Any] = {"required": False, "allow_null": True, "help_text": setting.help}
    if setting.kind is str:
        return TextField(max_length=LONGEST_TEXT, **common)
    kind = IntegerField if setting.kind is int else NumberField
    bounds: dict[str, Any] = {"min_value": _finite(setting.least), "max_value": _finite(setting.most)}
    return kind(**bounds, **common)


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


# The URL map, which imports this, is read when every app has declared its settings.
SettingsRequestSerializer: type[StrictSerializer] = type(
    "SettingsRequestSerializer", (StrictSerializer,), {name: _field(one) for name, one in declared().items()}
)


class SettingsView(ApiView):
    @extend_schema(operation_id="settings_list", responses=ANSWER)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """What can be tuned without a restart, and how it is set. Administrators of the installation only."""
        return self._answer()

    @extend_schema(operation_id="settings_update", request=SettingsRequestSerializer, responses=ANSWER)
    def patch(self, request: Request) -> Response:  # noqa: ARG002
        """Change settings by name, all of them or none; `null` gives one its default back. Dispatchers and workers
        follow within a tick."""
        runtime_services.change(self.actor, self.read(SettingsRequestSerializer), now=self.now)
        return self._answer()

    def _answer(self) -> Response:
        rows = [_rendered(row) for row in runtime_services.settings_visible_to(self.actor)]
        return Response({"results": rows}, headers={"Cache-Control": "no-store"})


def _rendered(shown: Shown) -> dict[str, Any]:
    setting, row = shown.setting, shown.row
    return {
        "name": setting.name,
        "value": shown.value,
        "default": shown.default,
        "is_default": row is None,
        "kind": KINDS[setting.kind],
        "least": _finite(setting.least),
        "most": _finite(setting.most),
        "label": str(setting.label),
        "help": str(setting.help),
        "updated_at": None if row is None else instant(row.updated_at),
        "updated_by": "" if row is None else row.updated_by,
    }
