"""The command that `make run` prints gives a run on whatever the database holds."""

from __future__ import annotations

import pytest

from access_app.actors import system_actor
from console_app.management.commands.run_all import _curl
from tasks_app.services import tasks
from tests.tasks_app.making import NOW, make_task

pytestmark = pytest.mark.django_db
BASE = "http://127.0.0.1:8000"


def printed() -> str:
    line = _curl(BASE, "var/api_key")
    assert line.startswith("curl ") and "\n" not in line
    return line


def test_an_empty_installation_gets_a_command_that_makes_its_task_first():
    line = printed()
    assert '"name": "hello"' in line and line.endswith(f"{BASE}/api/tasks/1/trigger")


def test_a_paused_task_is_not_the_one_to_try():
    make_task(paused=True)
    other = make_task()
    assert printed().endswith(f"{BASE}/api/tasks/{other.pk}/trigger")


def test_where_tasks_have_come_and_gone_the_number_of_the_new_one_is_taken_from_the_answer():
    tasks.delete(system_actor(), make_task(), now=NOW)
    line = printed()
    assert "/api/tasks/1/" not in line and f"{BASE}/api/tasks/$(curl" in line


def test_where_every_task_is_paused_a_new_one_is_made_under_a_name_that_is_free():
    make_task(name="hello", paused=True)
    assert '"name": "hello"' not in printed()
