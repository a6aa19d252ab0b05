"""The two clocks of an example."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tasks_app import rowset
from tests.tasks_app.making import NOW
from workers_app import execution, finishing, lifecycle, reaper


class Clock:
    """`now` is what dispatchers, workers and people see, and may jump; `steady` is the database's, and never does."""

    def __init__(self) -> None:
        self.now = self.latest = self.steady = NOW
        # What goes on while somebody sleeps.
        self.on_sleep: Callable[[], None] = lambda: None

    def advance(self, seconds: float) -> None:
        self.steady += timedelta(seconds=seconds)
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def sleep(self, seconds: float) -> None:
        self.steady += timedelta(seconds=seconds)
        self.on_sleep()

    def uptime(self) -> float:
        return (self.steady - NOW).total_seconds()

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let all that reads a clock by itself read this one."""
        clock = self

        class Now(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return clock.now

        for module in (execution, finishing):
            monkeypatch.setattr(module, "datetime", Now)
        monkeypatch.setattr(rowset, "database_now", lambda _connection=None: clock.steady)
        for ticking in (lifecycle, reaper):
            monkeypatch.setattr(ticking, "time", SimpleNamespace(monotonic=self.uptime, sleep=self.sleep))
