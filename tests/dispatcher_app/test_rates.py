"""Starts are kept for as long as some rate counts them, and no longer."""

from __future__ import annotations

import pytest

from dispatcher_app.rates import forget_starts
from tasks_app.models import RateStart, Resource, Task, TaskResource
from tests.tasks_app.making import NOW, later, make_task

pytestmark = pytest.mark.django_db


def started(task: Task, *seconds: float) -> None:
    RateStart.objects.bulk_create([RateStart(task=task, at=later(seconds=-ago)) for ago in seconds])


def kept(task: Task) -> list[float]:
    return sorted((NOW - at).total_seconds() for at in RateStart.objects.filter(task=task).values_list("at", flat=True))


def test_starts_are_forgotten_when_the_longest_window_has_passed():
    own, both = (make_task(rate_limit=1, rate_window_seconds=10) for _ in range(2))
    shared, none = make_task(), make_task()
    resource = Resource.objects.create(name="api", rate_limit=1, rate_window_seconds=60)
    for task in (shared, both):
        TaskResource.objects.create(task=task, resource=resource)
    for task in (own, shared, both, none):
        started(task, 9.5, 10, 59.5, 60, 61)
    assert forget_starts(NOW) == 4 + 2 + 2 + 5
    assert [kept(task) for task in (own, shared, both, none)] == [[9.5], [9.5, 10, 59.5], [9.5, 10, 59.5], []]
    assert forget_starts(NOW) == 0


def test_without_any_start_there_is_nothing_to_forget():
    assert forget_starts(NOW) == 0
