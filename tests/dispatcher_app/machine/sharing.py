"""Rules: resources that tasks share, and backfills."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tasks_app.errors import SchedulerError, WrongState
from tasks_app.models import Backfill, Resource, Run, Schedule
from tasks_app.models.backfill import Reprocess
from tasks_app.services import backfills, resources
from tasks_app.services.backfills import Wish
from tasks_app.states import TERMINAL
from tests.dispatcher_app.machine.ground import SYSTEM, pick
from tests.dispatcher_app.machine.instants import between, is_closed
from tests.dispatcher_app.machine.scene import Feature
from tests.dispatcher_app.machine.snapshot import only
from tests.dispatcher_app.machine.work import Work


class Sharing(Work):
    """What people do with what runs share."""

    @precondition(lambda self: self.scene.has(Feature.CAPACITY))
    @rule(capacity=st.integers(2, 4))
    def edit_capacity(self, capacity: int) -> None:
        with self.step():
            resources.update_resource(SYSTEM, self._target(), {"capacity": capacity}, now=self.world.clock.now)

    @precondition(lambda self: self.scene.has(Feature.BREAKER))
    @rule(close=st.booleans())
    def turn_breaker(self, close: bool) -> None:
        # A person comes before or after a tick, never at its very moment.
        self.world.clock.advance(0.001)
        now, target = self.world.clock.now, self._target()
        self.world.clock.latest = max(self.world.clock.latest, now)
        with self.step():
            (resources.reset if close else resources.trip)(SYSTEM, target, now=now)
        breaker = self.gates.breakers[target.pk]
        if close:
            breaker.reset()
        else:
            breaker.trip(now)

    def _target(self) -> Resource:
        assert self.scene.target is not None
        return Resource.objects.get(pk=self.scene.target.pk)

    @precondition(lambda self: self.scene.has(Feature.BACKFILLS) and self.owed)
    @rule(
        which=pick,
        minutes=st.integers(3, 12),
        most=st.integers(1, 3),
        again=st.sampled_from(Reprocess.values),
        newest_first=st.booleans(),
    )
    def fill_in(self, which: int, minutes: int, most: int, again: str, newest_first: bool) -> None:
        id = sorted(self.owed)[which % len(self.owed)]
        schedule, now = Schedule.objects.select_related("task__version").get(pk=id), self.world.clock.now
        start = now - timedelta(minutes=minutes)
        wish = Wish(start, now, schedule, reprocess=again, newest_first=newest_first, max_concurrent=most)
        known = self._instants_with_runs(id)
        with self.step(may_plan=True), suppress(SchedulerError):
            backfill = backfills.plan(SYSTEM, schedule.task, wish, now=now)
            rows = Run.objects.filter(backfill=backfill).order_by("pk")
            planned: list[Any] = list(rows.values_list("nominal_at", flat=True))
            assert planned == sorted(set(planned), reverse=newest_first)
            assert not Run.objects.filter(backfill=backfill, expires_at__isnull=False).exists()
            self._check_filled(id, start, planned, known, again)

    def _instants_with_runs(self, schedule: int) -> dict[Any, str]:
        """{instant: state of its newest run}, by the schedule itself, by backfills of it or by hand once more."""
        of_backfill = set(Backfill.objects.filter(schedule=schedule).values_list("pk", flat=True))
        task = self.owed[schedule].task
        return {
            run.nominal_at: run.state
            for run in self.runs.values()
            if run.schedule_id == schedule
            or run.backfill_id in of_backfill
            or (run.task_id == task and run.schedule_id is run.backfill_id is run.root_id is None)
        }

    def _check_filled(self, id: int, start: Any, planned: list[Any], known: dict[Any, str], again: str) -> None:
        """What is under way, to be fired or not to be run again is left out; what has no run is not."""
        owed, now = self.owed[id], self.world.clock.now
        wanted = between(owed.period, start - timedelta(microseconds=1), now)
        assert set(planned) <= set(wanted), f"{planned} are not instants of the schedule"
        for at in planned:
            state = known.get(at)
            assert state is None or state in TERMINAL, f"{at} is {state} and was filled in"
            assert again == "all" or state is None or (again == "failed" and state != "succeeded"), f"{at} was {state}"
            to_come = owed.enabled and owed.exact and at > owed.answered_until and at > owed.since
            assert not to_come, f"{at} is still to be fired and was filled in"
            assert owed.calendar != "skip" or not is_closed(at), f"{at} is closed and was filled in"
        for at in set(wanted) - set(planned) - known.keys():
            assert owed.calendar or not owed.exact or at > owed.answered_until, f"{at} has no run and was left out"

    @precondition(lambda self: self.scene.has(Feature.BACKFILLS))
    @rule(which=pick, verb=st.sampled_from(["pause", "resume", "cancel"]))
    def steer_backfill(self, which: int, verb: str) -> None:
        rows = list(Backfill.objects.order_by("pk").select_related("task"))
        if not rows:
            return
        backfill = rows[which % len(rows)]
        mine = {id for id, run in self.runs.items() if run.backfill_id == backfill.pk}
        unstarted = [
            id
            for id, run in self.runs.items()
            if (id in mine or run.root_id in mine) and run.state in ("waiting", "queued")
        ]
        cancelled = verb == "cancel"
        with self.step(only(unstarted if cancelled else [], "cancelled")), suppress(WrongState):
            getattr(backfills, verb)(SYSTEM, backfill, now=self.world.clock.now)
            assert not cancelled or not Run.objects.filter(pk__in=unstarted, state__in=("waiting", "queued")).exists()
