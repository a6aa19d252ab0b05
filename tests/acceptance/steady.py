"""A steady load on a stack, each run of which must be executed once."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.work import NOOP, create_task, states
from tests.services import ProcessStack

BATCH_SECONDS = 0.5
STARTS = "select count(*) from tasks_app_runevent where to_state = 'running'"


class Load:
    """Asks for runs at a steady pace: by the batch, of a callable and of one command that writes down its id."""

    def __init__(self, stack: ProcessStack, web: httpx.Client, written: Path, *, a_second: int) -> None:
        self._stack, self._web, self._written = stack, web, written
        self._batch = int(a_second * BATCH_SECONDS) - 1
        self._noop = create_task(stack, "noop", "callable", NOOP)
        self._witness = create_task(stack, "witness", "shell", f"echo $SCHEDULER_RUN_ID >> {written}")
        self._next_at = time.monotonic()
        self.asked = 0

    def keep_up(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            items: dict[str, Any] = {"items": [{}] * self._batch}
            answered(self._web.post(f"/api/tasks/{self._noop}/trigger-batch", json=items), 201)
            answered(self._web.post(f"/api/tasks/{self._witness}/trigger", json={}), 201)
            self.asked += self._batch + 1
            self._next_at = max(self._next_at + BATCH_SECONDS, time.monotonic() - BATCH_SECONDS)
            time.sleep(max(self._next_at - time.monotonic(), 0))

    def is_done(self) -> bool:
        return states(self._stack) == {"succeeded": self.asked}

    def assert_each_ran_once(self) -> None:
        """Each was claimed once, at its first attempt, and executed once."""
        assert self._stack.value(STARTS) == self.asked
        assert self._stack.value("select count(*) from tasks_app_run where attempt <> 1") == 0
        self.assert_each_was_executed_once()

    def assert_each_was_executed_once(self) -> None:
        """A claim whose answer was lost with the link is handed back, and counts as an attempt that never began."""
        ids = self._stack.rows("select id from tasks_app_run where task_id = %s", [self._witness])
        assert Counter(self._written.read_text().split()) == Counter(str(id) for (id,) in ids)


def answered(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return response.json()
