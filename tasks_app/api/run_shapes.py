"""How runs, their events and their output look in answers. Docs: docs/api.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access_app.actors import Actor
from access_app.api.fields import InstantField
from access_app.api.guarded import GuardedSerializer
from access_app.roles import Verb
from tasks_app.api.routing_fields import PlaceShape
from tasks_app.api.shapes import NOT_FOR_ALL, PriorityName
from tasks_app.end_steps import ASKED, ENDED, KILL_ASKED, ladders
from tasks_app.models import EndStep, Run, WorkerDeath


class EndStepSerializer(serializers.Serializer[Any]):
    step = serializers.ChoiceField(choices=[ASKED, *EndStep.Step.values, KILL_ASKED, ENDED])
    at = InstantField()
    attempt = serializers.IntegerField()
    after = serializers.FloatField(help_text="Seconds since the first step.")


class RunSerializer(GuardedSerializer, PlaceShape):
    # The concurrency key is made of parameters.
    guarded = {Verb.SEE_PARAMETERS: ("params", "concurrency_key"), Verb.SEE_OUTPUT: ("output",)}

    id = serializers.IntegerField()
    task = serializers.IntegerField(source="task_id")
    task_name = serializers.CharField(source="task.name")
    project = serializers.CharField(source="task.project.name")
    pool = serializers.CharField(source="pool.name")
    state = serializers.CharField()
    reason = serializers.CharField()
    reason_detail = serializers.CharField()
    run_type = serializers.CharField()
    attempt = serializers.IntegerField()
    priority = PriorityName()
    held = serializers.BooleanField()
    weight = serializers.IntegerField()
    concurrency_key = serializers.CharField(allow_null=True, help_text=NOT_FOR_ALL)
    backfill = serializers.IntegerField(source="backfill_id", allow_null=True)
    schedule = serializers.IntegerField(source="schedule_id", allow_null=True)
    rerun_of = serializers.IntegerField(source="rerun_of_id", allow_null=True)
    nominal_at = InstantField(allow_null=True)
    due_at = InstantField()
    expires_at = InstantField(allow_null=True)
    queued_at = InstantField(allow_null=True)
    started_at = InstantField(allow_null=True)
    finished_at = InstantField(allow_null=True)
    cancel_requested_at = InstantField(allow_null=True)
    terminate_requested_at = InstantField(allow_null=True)
    cancel_steps = serializers.SerializerMethodField(
        help_text="How it was ended: asked, acknowledged by its worker, TERM, KILL, worker lost."
    )
    memory_limit_mb = serializers.IntegerField(allow_null=True, help_text="In place of that of its task.")
    alone = serializers.BooleanField(help_text="With no other run beside it on its worker.")
    exit_code = serializers.IntegerField(allow_null=True)
    output = serializers.JSONField(allow_null=True)
    worker = serializers.UUIDField(source="worker_id", allow_null=True)
    worker_name = serializers.SerializerMethodField()
    version = serializers.IntegerField(source="version.number")
    params = serializers.DictField(allow_null=True, help_text=NOT_FOR_ALL)
    idempotency_key = serializers.CharField(allow_null=True)
    created_at = InstantField()

    def get_fields(self) -> dict[str, Any]:
        # `root` is an attribute of every field already.
        root = serializers.IntegerField(source="root_id", allow_null=True)
        return {**super().get_fields(), "root": root}

    def project_of(self, row: Run) -> int:
        return row.task.project_id

    @extend_schema_field(EndStepSerializer(many=True))
    def get_cancel_steps(self, run: Run) -> list[Any]:
        return list(EndStepSerializer(self.context["ladders"].get(run.pk, ()), many=True).data)

    def get_worker_name(self, run: Run) -> str | None:
        name: str | None = self.context.get("worker_names", {}).get(run.worker_id)
        return name


class RunEventSerializer(serializers.Serializer[Any]):
    at = InstantField()
    to = serializers.CharField(source="to_state")
    attempt = serializers.IntegerField()
    reason = serializers.CharField()
    detail = serializers.CharField()
    actor = serializers.CharField()

    def get_fields(self) -> dict[str, Any]:
        # `from` cannot be an attribute of a class body.
        return {"from": serializers.CharField(source="from_state"), **super().get_fields()}


class WorkerDeathSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField()
    at = InstantField()
    worker = serializers.UUIDField(source="worker_id")
    worker_name = serializers.CharField()
    host = serializers.CharField()
    signal = serializers.IntegerField(allow_null=True, help_text="null: not known, as with all that follows.")
    out_of_memory = serializers.BooleanField(
        allow_null=True, help_text="The kernel ended a process of the host for want of memory in that moment."
    )
    worker_peak_mb = serializers.IntegerField(allow_null=True)
    run_peak_mb = serializers.IntegerField(allow_null=True)
    last_words = serializers.CharField(help_text="What the interpreter said of a crash.")
    last_lines = serializers.SerializerMethodField(help_text="Of the output of that attempt; null: not for you to see.")

    @extend_schema_field({"type": "array", "items": {"type": "string"}, "nullable": True})
    def get_last_lines(self, death: WorkerDeath) -> list[str] | None:
        lines: dict[int, list[str]] | None = self.context["last_lines"]
        return None if lines is None else lines.get(death.attempt, [])


class LogLineSerializer(serializers.Serializer[Any]):
    n = serializers.IntegerField()
    at = serializers.DateTimeField()
    stream = serializers.CharField(help_text="`stdout`, `stderr`, or `system` for our own remarks.")
    text = serializers.CharField()


class LogSerializer(serializers.Serializer[Any]):
    lines = LogLineSerializer(many=True)
    next_offset = serializers.IntegerField()
    complete = serializers.BooleanField(help_text="The run is over and no line follows.")
    truncated = serializers.BooleanField(help_text="Some of the output was left out for its size.")
    attempt = serializers.IntegerField()


def render_runs(runs: Iterable[Run], actor: Actor) -> list[Any]:
    """The runs with the names of their workers and the steps of their endings: one query each for all."""
    rows = list(runs)
    context = {"worker_names": worker_names(rows), "ladders": ladders(rows), "actor": actor}
    return list(RunSerializer(rows, many=True, context=context).data)


def render_run(run: Run, actor: Actor) -> dict[str, Any]:
    found: dict[str, Any] = render_runs([run], actor)[0]
    return found


def worker_names(runs: Iterable[Run]) -> dict[Any, str]:
    ids = {run.worker_id for run in runs if run.worker_id is not None}
    if not ids:
        return {}
    workers = apps.get_model("workers_app", "Worker")._default_manager
    return dict(workers.filter(pk__in=ids).values_list("pk", "name"))
