"""Answers in which some fields are for those who hold a verb of their own, such as parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rest_framework import serializers

from access_app.roles import Verb, holds


class GuardedSerializer(serializers.Serializer[Any]):
    """Shows null in place of the `guarded` fields of a row to an actor who lacks the verb in its project.

    `context["actor"]` must be there: without it nothing is rendered, so that no door forgets to ask.
    """

    guarded: ClassVar[Mapping[Verb, Sequence[str]]] = {}

    def project_of(self, row: Any) -> int:
        """The id of the project of the row."""
        raise NotImplementedError

    def to_representation(self, instance: Any) -> dict[str, Any]:
        shown = super().to_representation(instance)
        actor, project_id = self.context["actor"], self.project_of(instance)
        for verb, names in self.guarded.items():
            if not holds(actor, verb, project_id):
                shown.update(dict.fromkeys(names))
        return dict(shown)
