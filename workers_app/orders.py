"""What is asked of a worker through its row: to take nothing new, to go on, to finish and leave."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import structlog

from workers_app.execution import Execution
from workers_app.listening import Deaf, Listening
from workers_app.models import WorkerState

log = structlog.get_logger("worker")


def terminate_myself() -> None:
    """End this process in the way in which an operator does: with TERM, which drains what is left and signs off."""
    os.kill(os.getpid(), signal.SIGTERM)


class Orders:
    """Carries them out. `obey` is called with each beat, `leave_when_idle` more often; by threads of the worker."""

    def __init__(self, execution: Execution, leave: Callable[[], None] = terminate_myself) -> None:
        self.listening: Listening = Deaf()
        self._execution, self._leave = execution, leave
        self._state: str = WorkerState.ONLINE
        self._over = False

    def stand_down(self) -> None:
        """Carry out nothing more: the process is ending already."""
        self._over = True

    def obey(self, state: str) -> None:
        """Do what the state of the row asks for; `state` is what was read with the beat."""
        if self._over or self._state in (state, WorkerState.DRAINING):
            return
        log.info("state changed", state=state)
        if state == WorkerState.DRAINING:
            self._state = state
            self.listening.stop()
            self._execution.stop_claiming()
        elif state == WorkerState.CORDONED:
            self._state = state
            # Before the queues are left: what is delivered meanwhile is handed back.
            self._execution.refusing = True
            self.listening.stop()
        elif state == WorkerState.ONLINE:
            self._state = state
            self._execution.refusing = False
            self.listening.go_on()

    def leave_when_idle(self) -> None:
        """End the process once the last run of a worker that drains is over, however long that takes."""
        if not self._over and self._state == WorkerState.DRAINING and not self._execution.active:
            log.info("drained")
            self._over = True
            self._leave()
