"""Dispatchers that note the same ended runs at the same moment, and whoever holds what they would tell."""

from __future__ import annotations

import pytest

from access_app.actors import system_actor
from dispatcher_app.noting import note_ended
from tasks_app.models import Resource, Run, Task, TaskResource
from tasks_app.services import tasks
from tasks_app.states import Reason, RunState
from tests.tasks_app.making import NOW, end, make_task, plan, start

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def failing(name: str, runs: int = 2) -> Task:
    task = make_task(name, auto_pause_after=9)
    resource = Resource.objects.create(name=name, breaker_failures=9)
    TaskResource.objects.create(task=task, resource=resource)
    for id in plan(task, runs):
        start(id)
        end(id, RunState.FAILED, reason=Reason.EXIT_CODE)
    return task


def counted() -> dict[str, tuple[int, int]]:
    failures = dict(Task.objects.values_list("name", "failures_in_a_row"))
    return {name: (failures[name], n) for name, n in Resource.objects.values_list("name", "breaker_failures_in_a_row")}


def test_two_dispatchers_at_once_count_each_attempt_once(hold, in_thread):
    failing("a")
    first = hold(lambda: note_ended(NOW))
    failing("b")
    second = in_thread(lambda: note_ended(NOW))
    assert second.result(20) == 2, "it passes over what the first holds"
    assert first.commit() == 2
    assert note_ended(NOW) == 0
    assert counted() == {"a": (2, 2), "b": (2, 2)}


@pytest.mark.parametrize("table", ["task", "resource"])
def test_what_cannot_be_told_now_is_told_the_next_time_and_holds_up_nothing_else(second_connection, table):
    failing("a")
    failing("b")
    second_connection.execute(f"SELECT 1 FROM tasks_app_{table} WHERE name = 'a' FOR UPDATE")
    assert note_ended(NOW) == 2
    assert counted() == {"a": (0, 0), "b": (2, 2)}
    second_connection.rollback()
    assert note_ended(NOW) == 2
    assert note_ended(NOW) == 0
    assert counted() == {"a": (2, 2), "b": (2, 2)}


def test_a_task_that_is_being_deleted_is_not_waited_for(hold, blocked):
    task = failing("a")
    noted = hold(lambda: note_ended(NOW))
    deletion = blocked(lambda: tasks.delete(system_actor(), task, now=NOW))
    assert noted.commit() == 2
    deletion.result(20)
    assert not Run.objects.exists()
