"""Serializer fields that take a JSON value of their own type alone, and times in UTC with `Z`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

# Beyond these, arithmetic with intervals leaves what a datetime can hold.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know, beside what else is wrong."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({"non_field_errors": [_("Send one JSON object.")]})
        problems: dict[str, Any] = {}
        values: Any = None
        for name in data:
            field = self.fields.get(name)
            if field is None:
                problems[name] = [_("Unknown field.")]
            elif field.read_only:
                problems[name] = [_("This field is read-only.")]
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            assert isinstance(error.detail, dict)
            problems = {**error.detail, **problems}
        if problems:
            raise serializers.ValidationError(problems)
        return values


class TextField(serializers.CharField):
    """Text; a number is not text."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if not isinstance(data, str | None) and data is not serializers.empty:
            self.fail("invalid")
        return super().run_validation(data)


class IntegerField(serializers.IntegerField):
    """A whole number; neither its text nor 5.0 nor true."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class BooleanField(serializers.BooleanField):
    """true or false; neither "yes" nor 1."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class ChoiceField(serializers.ChoiceField):
    """One of some texts."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


@extend_schema_field(OpenApiTypes.OBJECT)
class ObjectField(serializers.JSONField):
    """An object of names and any JSON values."""

    default_error_messages = {"not_object": _("Give an object of names and values.")}

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            self.fail("not_object")
        return data


@extend_schema_field(OpenApiTypes.DATETIME)
class InstantField(serializers.Field[Any, Any, Any, Any]):
    """A time: in with its offset, out in UTC with `Z`."""

    default_error_messages = {
        "invalid": _("Give a time in ISO 8601 with its offset, such as 2030-01-31T08:00:00Z."),
        "range": _("This time is too far away."),
    }

    def to_internal_value(self, data: Any) -> datetime:
        try:
            value = parse_datetime(data) if isinstance(data, str) else None
        except ValueError:
            value = None
        if value is None or value.utcoffset() is None:
            self.fail("invalid")
        if not EARLIEST <= value <= LATEST:
            self.fail("range")
        return value.astimezone(UTC)

    def to_representation(self, value: datetime) -> str:
        return instant(value)


def instant(value: datetime) -> str:
    """An aware time as ISO 8601 in UTC with `Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
