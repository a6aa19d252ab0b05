"""What may stand in the bodies of requests about secrets, and how secrets look in answers: never with their value."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access_app.api.fields import InstantField, IntegerField, StrictSerializer, TextField
from access_app.models import Secret
from tasks_app.services.secrets import MOST_BYTES, MOST_TASKS, task_ids

MAX_ID = 2**63 - 1


@extend_schema_field(
    {
        "oneOf": [
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"type": "array", "items": {"type": "string"}},
        ]
    }
)
class SecretNamesField(serializers.Field[Any, Any, Any, Any]):
    """Names of secrets by variable: an object, or a list of names for variables of the same names."""

    default_error_messages = {"invalid": _("Give an object of variables and names of secrets, or a list of names.")}

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if isinstance(data, list) and all(isinstance(name, str) for name in data):
            return {name: name for name in data}
        if not isinstance(data, dict) or not all(isinstance(name, str) for name in data.values()):
            self.fail("invalid")
        return dict(data)


class SecretEditBody(StrictSerializer):
    description = TextField(max_length=1000, allow_blank=True, required=False)
    value = TextField(
        max_length=MOST_BYTES,
        required=False,
        trim_whitespace=False,
        write_only=True,
        help_text=_("Up to 64 KiB of text. It is never given back."),
    )
    tasks = serializers.ListField(
        child=IntegerField(min_value=1, max_value=MAX_ID),
        max_length=MOST_TASKS,
        allow_null=True,
        required=False,
        help_text=_("Ids of the tasks that may use it; null: all of its project."),
    )


class SecretBody(SecretEditBody):
    name = TextField(max_length=64, help_text=_("Capital letters, digits and underscores, a letter first."))
    project = TextField(max_length=100, required=False, help_text=_("Name of the project; default: `default`."))
    value = TextField(
        max_length=MOST_BYTES,
        trim_whitespace=False,
        write_only=True,
        help_text=_("Up to 64 KiB of text. It is never given back."),
    )


class SecretSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    project = serializers.CharField(source="project.name")
    description = serializers.CharField()
    tasks = serializers.SerializerMethodField(help_text="The tasks that may use it; null: all of its project.")
    version = serializers.IntegerField(help_text="How many values it has had.")
    key_id = serializers.CharField(help_text="The key that its value is encrypted with.")
    created_at = InstantField()
    updated_at = InstantField()

    @extend_schema_field({"type": "array", "items": {"type": "integer"}, "nullable": True})
    def get_tasks(self, secret: Secret) -> list[int] | None:
        return task_ids(secret)
