"""Rules: what people do. With the others they make the machine."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tasks_app.errors import SchedulerError
from tasks_app.models import Run, Schedule, Task
from tasks_app.models.task import Overlap, PauseMode
from tasks_app.services import pauses, runs, schedules, tasks
from tasks_app.states import TERMINAL
from tests.dispatcher_app.machine import instants
from tests.dispatcher_app.machine.ground import SYSTEM, pick
from tests.dispatcher_app.machine.instants import RULES
from tests.dispatcher_app.machine.scene import Feature
from tests.dispatcher_app.machine.sharing import Sharing
from tests.dispatcher_app.machine.snapshot import May, only


class Machine(Sharing):
    """One rule for each thing that can happen."""

    @precondition(lambda self: self.tasks)
    @rule(which=pick, number=st.integers(2, 4))
    def trigger_some(self, which: int, number: int) -> None:
        for _ in range(number):
            self.trigger(which, None, 0)

    @precondition(lambda self: self.tasks)
    @rule(which=pick, key=st.sampled_from([None, None, "a", "b"]), later=st.sampled_from([0, 0, 0, 50]))
    def trigger(self, which: int, key: str | None, later: int) -> None:
        task = self._fresh(which)
        not_before = self.world.clock.now + timedelta(seconds=later) if later else None
        params = {"k": "xy"[len(self.runs) % 2]} if task.concurrency_key else {}
        request = runs.Request(params=params, idempotency_key=key, not_before=not_before)
        known = set(self.runs)
        with self.step(self._by_overlap(task), may_plan=True), suppress(SchedulerError):
            run, _new = runs.trigger(SYSTEM, task, request, now=self.world.clock.now)
            if key is not None:
                assert self.keys.setdefault((task.pk, key), run.pk) == run.pk, "the same key has given two runs"
            else:
                assert run.pk not in known
            assert run.concurrency_key == params.get("k", "")

    def _by_overlap(self, task: Task) -> May:
        """A new run may put others of its task aside, as far as its policy goes."""
        ends = {Overlap.CANCEL_RUNNING.value, Overlap.TERMINATE_RUNNING.value}

        def may(before: Any, after: Any) -> bool:
            if before.task_id != task.pk or task.overlap in (Overlap.ALLOW, Overlap.QUEUE_ALL):
                return False
            return after.state == "skipped" or (after.state == "cancelled" and task.overlap in ends)

        return may

    @rule(which=st.integers(0, 40), kill=st.booleans())
    def cancel(self, which: int, kill: bool = False) -> None:
        open_runs = [run for run in self.runs.values() if run.state not in TERMINAL]
        if not open_runs:
            return
        run = open_runs[which % len(open_runs)]
        unstarted = run.state != "running"
        row = Run.objects.select_related("task").get(pk=run.id)
        with self.step(only([run.id] if unstarted else [], "cancelled")):
            (runs.terminate if kill else runs.cancel)(SYSTEM, row, now=self.world.clock.now)
        assert self.runs[run.id].cancel_requested_at is not None
        assert (self.runs[run.id].state == "cancelled") == unstarted

    @rule(which=st.integers(0, 40), back=st.booleans())
    def hold_or_let_go(self, which: int, back: bool) -> None:
        waiting = [run for run in self.runs.values() if run.state == "waiting" and run.held == back]
        if not waiting:
            return
        row = Run.objects.select_related("task").get(pk=waiting[which % len(waiting)].id)
        with self.step():
            (runs.unhold if back else runs.hold)(SYSTEM, row, now=self.world.clock.now)

    @rule(which=st.integers(0, 40))
    def run_again(self, which: int) -> None:
        over = [run for run in self.runs.values() if run.state in TERMINAL]
        if not over:
            return
        row = Run.objects.select_related("task__version").get(pk=over[which % len(over)].id)
        with self.step(self._by_overlap(row.task), may_plan=True), suppress(SchedulerError):
            runs.rerun(SYSTEM, row, now=self.world.clock.now)

    @precondition(lambda self: self.tasks)
    @rule(which=pick, mode=st.sampled_from(PauseMode.values), seconds=st.sampled_from([None, 30, 3600]))
    def pause(self, which: int, mode: str, seconds: int | None) -> None:
        now = self.world.clock.now
        until = now + timedelta(seconds=seconds) if seconds else None
        with self.step():
            pauses.pause(SYSTEM, self._fresh(which), now=now, mode=mode, until=until)

    @precondition(lambda self: self.tasks)
    @rule(which=pick)
    def resume(self, which: int) -> None:
        with self.step():
            pauses.resume(SYSTEM, self._fresh(which), now=self.world.clock.now)

    @precondition(lambda self: self.tasks)
    @rule(which=pick, limit=st.sampled_from([None, 1, 2, 4]), policy=st.sampled_from(Overlap.values))
    def edit_task(self, which: int, limit: int | None, policy: str) -> None:
        fields = {"max_concurrent": limit, "overlap": policy, "retry_count": limit or 0}
        with self.step():
            tasks.update(SYSTEM, self._fresh(which), fields, now=self.world.clock.now)

    @precondition(lambda self: self.owed)
    @rule(which=pick, period=st.sampled_from(sorted(RULES)), enabled=st.sampled_from([True, True, False]))
    def edit_schedule(self, which: int, period: int, enabled: bool) -> None:
        id = sorted(self.owed)[which % len(self.owed)]
        owed, now = self.owed[id], self.world.clock.now
        with self.step():
            row = Schedule.objects.select_related("task").get(pk=id)
            schedules.update(SYSTEM, row, {**RULES[period], "enabled": enabled}, now=now)
        if (period, enabled) != (owed.period, owed.enabled):
            owed.edited(now, period, enabled)
        instants.check(self.owed)

    @precondition(lambda self: len(self.owed) > 2)
    @rule(which=pick)
    def delete_schedule(self, which: int) -> None:
        id = sorted(self.owed)[which % len(self.owed)]
        with self.step():
            row = Schedule.objects.select_related("task").get(pk=id)
            schedules.delete(SYSTEM, row, now=self.world.clock.now)
        del self.owed[id]

    @precondition(lambda self: len(self.tasks) > 4)
    @rule(which=pick)
    def delete_task(self, which: int) -> None:
        task = self._fresh(which)
        waiting = [run.id for run in self.runs.values() if run.state == "waiting" and run.task_id != task.pk]
        with self.step(only(waiting, "upstream_failed"), may_delete=[task.pk]):
            tasks.delete(SYSTEM, task, now=self.world.clock.now)
        assert not [run for run in self.runs.values() if run.task_id == task.pk]
        self.tasks = [one for one in self.tasks if one.pk != task.pk]
        self.owed = {id: owed for id, owed in self.owed.items() if owed.task != task.pk}
        if self.scene.delayed is not None and not Schedule.objects.filter(pk=self.scene.delayed).exists():
            self.scene.delayed = None
        self.keys = {key: run for key, run in self.keys.items() if key[0] != task.pk}


def machine_with(features: Iterable[Feature]) -> type[Machine]:
    """The machine whose examples all have these features; without any, those that are drawn."""

    class Chosen(Machine):
        wanted = frozenset(features)

    return Chosen
