"""I8: a queued run is announced when it is released, and again when its message must be lost, no sooner nor later."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings

from tasks_app.models import Pool
from tests.dispatcher_app.machine.snapshot import Runs, Seen
from workers_app.doorbell import Message
from workers_app.models import Worker, WorkerState

LONGEST = timedelta(minutes=5)
SKEW = timedelta(seconds=30)


class Announcing:
    """Of a tick at `now`, of which `before` are the runs and `queue` the messages before it."""

    def __init__(self, now: datetime, before: Runs, queue: Iterable[Message], *, rescue: bool, deaf: bool) -> None:
        self._now, self._before, self._rescue, self._deaf = now, before, rescue, deaf
        self._busy = {pool for pool, _pairs in queue}

    def check(self, after: Runs, published: Iterable[Message]) -> None:
        announced = [(pool, id, attempt) for pool, pairs in published for id, attempt in pairs]
        assert len(set(announced)) == len(announced), f"announced more than once: {announced}"
        busy = self._busy | {pool for pool, id, attempt in announced if not self._was_queued(id, attempt)}
        names = dict(Pool.objects.values_list("pk", "name"))
        served = set(Worker.objects.filter(state=WorkerState.ONLINE).values_list("pool__name", flat=True))
        for run in after.values():
            if run.state != "queued":
                continue
            pool = names[run.pool_id]
            heard = (pool, run.id, run.attempt) in announced
            if not self._was_queued(run.id, run.attempt):
                assert heard or self._deaf, f"{run} was queued and not announced"
                self._check_next_look(run, timedelta(seconds=settings.SCHEDULER_SWEEP_SECONDS))
                continue
            found = self._rescue and self._is_overdue(run.id) and pool in served - busy
            assert heard == (found and not self._deaf), f"I8: {run} was {'' if heard else 'not '}announced again"
            if found:
                self._check_next_look(run, LONGEST)
            else:
                assert run.sweep_at == self._before[run.id].sweep_at, f"I8: {run} was put off"

    def _was_queued(self, id: int, attempt: int) -> bool:
        old = self._before.get(id)
        return old is not None and (old.state, old.attempt) == ("queued", attempt)

    def _is_overdue(self, id: int) -> bool:
        at = self._before[id].sweep_at
        # One that lies so far ahead was written before a clock was set back.
        return at is None or at <= self._now or at > self._now + LONGEST + SKEW

    def _check_next_look(self, run: Seen, most: timedelta) -> None:
        assert run.sweep_at is not None
        assert self._now < run.sweep_at <= self._now + most, f"I8: {run} is looked at again at {run.sweep_at}"
