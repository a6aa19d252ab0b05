"""The tasks of an example: always the same ordinary ones, and some features beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from access_app.actors import Actor
from tasks_app.models import Calendar, Resource, Task, TaskDependency, TaskResource
from tasks_app.services import calendars, dependencies, resources, schedules
from tests.dispatcher_app.machine import gates, instants
from tests.dispatcher_app.machine.instants import RULES, Owed
from tests.tasks_app.making import depend, make_pool, make_task


class Feature(StrEnum):
    """What an example may have beside the ordinary: a few at once, for each hides a part of the others."""

    KEYS = "keys"
    WEIGHTS = "weights"
    CAPACITY = "capacity"
    WINDOW = "window"
    BREAKER = "breaker"
    RATES = "rates"
    DELAY = "delay"
    JITTER = "jitter"
    CALENDARS = "calendars"
    BACKFILLS = "backfills"
    DEADLINES = "deadlines"
    PERIODS = "periods"
    CONDITIONS = "conditions"


@dataclass(slots=True)
class Scene:
    """What was made of the draws of an example. `delayed` is the schedule of a fixed delay, `target` the resource."""

    actor: Actor
    now: datetime
    features: frozenset[Feature]
    catch_up: str
    tasks: list[Task] = field(default_factory=list)
    owed: dict[int, Owed] = field(default_factory=dict)
    delayed: int | None = None
    target: Resource | None = None

    def build(self, policy: str, trigger_rule: str, limit: int) -> None:
        small = make_pool("small", slots=limit + self.has(Feature.WEIGHTS))
        rate: dict[str, Any] = {"rate_limit": 2, "rate_window_seconds": 60} if self.has(Feature.RATES) else {}
        deadline = 45 if self.has(Feature.DEADLINES) else None
        plain = make_task(retry_count=1, **rate)
        again = make_task(retry_on_lost=True, retry_count=2, max_concurrent=limit, start_deadline_seconds=deadline)
        lapping = make_task(overlap=policy, retry_count=1)
        below, other, last = make_task(), make_task(pool=small), make_task(trigger_rule=trigger_rule)
        heavy = make_task(pool=small, weight=1 + self.has(Feature.WEIGHTS))
        depend(again, below, last)
        depend(again, other, last)
        self.tasks = [plain, again, lapping, below, other, last, heavy]
        for task, period in ((plain, 60), (again, 300), (lapping, 60), (other, 90)):
            self.schedule(task, period)
        self._add_keyed(limit)
        self._add_target({plain: 1, again: 2, lapping: 1}, limit)
        self._add_edges(again, below, other)
        self._add_periods(plain, last)
        if self.has(Feature.DELAY):
            fields = {"kind": "fixed_delay", "interval_seconds": instants.DELAY_SECONDS, "catch_up": self.catch_up}
            self.delayed = schedules.create(self.actor, heavy, fields, now=self.now).pk

    def has(self, feature: Feature) -> bool:
        return feature in self.features

    def schedule(self, task: Task, period: int) -> None:
        """Every second one of those that a calendar governs waits for its opening."""
        fields = {**RULES[period], "catch_up": self.catch_up, "max_catch_up": 3}
        owed = Owed(task.pk, period, self.now, self.now)
        if self.has(Feature.JITTER):
            owed.jitter = fields["jitter_seconds"] = 100
        if self.has(Feature.DEADLINES) and period == 60:
            owed.deadline = fields["start_deadline_seconds"] = 90
        if self.has(Feature.CALENDARS):
            owed.calendar = "skip" if period == 60 else "next_allowed"
            fields |= {"calendar": self._calendar(), "calendar_action": owed.calendar}
        owed.deadline = owed.deadline or task.start_deadline_seconds
        self.owed[schedules.create(self.actor, task, fields, now=self.now).pk] = owed

    def _calendar(self) -> Calendar:
        found = Calendar.objects.filter(name="closed").first()
        fields = {"name": "closed", "document": instants.CALENDAR}
        return found or calendars.create(self.actor, fields, now=self.now)

    def _add_keyed(self, limit: int) -> None:
        if self.has(Feature.KEYS):
            key: dict[str, Any] = {
                "concurrency_key": "{{ params.k }}",
                "max_concurrent_per_key": limit,
                "params": {"k": "x"},
            }
            self.tasks.append(make_task(retry_count=1, **key))
            # By twos, so that more come than there is room for while a part of it is taken.
            for _ in range(2):
                self.schedule(self.tasks[-1], 60)

    def _add_target(self, users: dict[Task, int], limit: int) -> None:
        fields: dict[str, Any] = {}
        if self.has(Feature.CAPACITY):
            fields["capacity"] = limit + 1
        if self.has(Feature.WINDOW):
            fields["calendar"] = self._calendar()
        if self.has(Feature.RATES):
            fields |= {"rate_limit": 3, "rate_window_seconds": 90}
        if self.has(Feature.BREAKER):
            fields |= {"breaker_failures": gates.FAILURES, "breaker_open_seconds": gates.OPEN_SECONDS}
            fields["breaker_open_seconds_at_most"] = gates.OPEN_SECONDS_AT_MOST
        if fields:
            self.target = resources.create_resource(self.actor, {"name": "target", **fields}, now=self.now)
            for task, amount in users.items():
                TaskResource.objects.create(task=task, resource=self.target, amount=amount)

    def _add_edges(self, again: Task, below: Task, other: Task) -> None:
        if self.has(Feature.CONDITIONS):
            for task, condition in ((below, "output.rows > 0"), (other, 'state == "failed"')):
                edge = TaskDependency.objects.get(upstream=again, downstream=task)
                dependencies.update(self.actor, edge, {"condition": condition}, now=self.now)

    def _add_periods(self, plain: Task, last: Task) -> None:
        if self.has(Feature.PERIODS):
            summary = make_task()
            self.tasks.append(summary)
            self.schedule(summary, 300)
            for task, policy in ((summary, "fail"), (last, "wait")):
                fields = {"period": "hour", "period_policy": policy}
                dependencies.create(self.actor, plain, task, fields, now=self.now)
