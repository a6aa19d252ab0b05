"""The two lists of executors, what a task may name and what a worker can do, are one."""

from __future__ import annotations

import pytest

from tasks_app.executors import EXECUTORS
from workers_app.executors import implementation


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_that_a_task_may_name_can_be_executed(name):
    assert callable(implementation(name))


def test_a_name_from_the_database_never_chooses_what_is_imported():
    with pytest.raises(KeyError):
        implementation("os")
