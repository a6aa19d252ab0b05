"""What the machine stands on: its beginning, dispatchers and time, the comparison after each step, its end."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from access_app.actors import system_actor
from monitoring_app.invariants import check_invariants
from tasks_app.dependencies import TriggerRule
from tasks_app.models import Pool, Run, Schedule, Task
from tasks_app.models.task import Overlap
from tasks_app.services import pauses, runs, schedules
from tasks_app.states import LIVE, TERMINAL, RunState
from tests.dispatcher_app.machine import instants, snapshot
from tests.dispatcher_app.machine.instants import RULES, Owed
from tests.dispatcher_app.machine.snapshot import May, Moves, OfTick, look, nothing
from tests.dispatcher_app.machine.world import World
from tests.tasks_app.making import default_pool, depend, make_pool, make_task
from workers_app.jobs import Result

SYSTEM = system_actor("machine")
# Nobody ends a run at its limit of time here, nor hurries.
NOT_ASKED = ("I5", "I8")
pick = st.integers(0, 11)
LIVENESS_ROUNDS = 60


def check_by_command(now: datetime) -> None:
    """What `check_invariants` says. Its times are those of one clock, so that it is no judge of one that jumps."""
    asked = [one for one in check_invariants(now, since=None) if one.invariant not in NOT_ASKED]
    assert not asked, f"{asked}"


class Ground(RuleBasedStateMachine):
    """One example: a world inside a transaction that is rolled back at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.atomic: Any = None
        self.sound = self.ticked = self.jumped = False

    @initialize(
        policy=st.sampled_from(Overlap.values),
        trigger_rule=st.sampled_from([rule.value for rule in TriggerRule]),
        catch_up=st.sampled_from(["none", "last", "all"]),
        limit=st.integers(1, 3),
    )
    def begin(self, policy: str, trigger_rule: str, catch_up: str, limit: int) -> None:
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.world = World(self.patches)
        self.runs: snapshot.Runs = {}
        self.owed: dict[int, Owed] = {}
        self.keys: dict[tuple[int, str], int] = {}
        small = make_pool("small", slots=limit)
        plain = make_task(retry_count=1)
        again = make_task(retry_on_lost=True, retry_count=2, max_concurrent=limit)
        lapping = make_task(overlap=policy, retry_count=1)
        below, other, last = make_task(), make_task(pool=small), make_task(trigger_rule=trigger_rule)
        depend(again, below, last)
        depend(again, other, last)
        self.tasks: list[Task] = [plain, again, lapping, below, other, last, make_task(pool=small, weight=1)]
        for task, period in ((plain, 60), (again, 300), (lapping, 60), (other, 90)):
            self._schedule(task, period, catch_up)
        for pool in (default_pool(), default_pool(), small):
            self.world.hire(pool)
        self.sound = True

    def _schedule(self, task: Task, period: int, catch_up: str) -> None:
        now = self.world.clock.now
        row = schedules.create(SYSTEM, task, {**RULES[period], "catch_up": catch_up, "max_catch_up": 3}, now=now)
        self.owed[row.pk] = Owed(task.pk, period, now, now)

    def teardown(self) -> None:
        try:
            if self.sound:
                self._run_out()
                with connection.cursor() as cursor:
                    if connection.vendor == "postgresql":
                        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        finally:
            if self.atomic is not None:
                transaction.set_rollback(True)
                self.atomic.__exit__(None, None, None)
            self.patches.undo()

    @contextmanager
    def step(self, may: May = nothing, *, may_plan: bool = False, may_delete: Collection[int] = ()) -> Iterator[None]:
        """What happens inside may move runs as `may` says; then everything is held against the model."""
        self.sound = False
        yield
        before, self.runs = self.runs, look()
        Moves(before, self.runs).check(may, may_plan=may_plan, may_delete=may_delete)
        snapshot.check_events(self.runs)
        if self.ticked and not self.jumped:
            check_by_command(self.world.clock.now)
        self.ticked = False
        self.sound = True

    @rule(which=st.integers(0, 1), deaf=st.sampled_from([False, False, False, True]), rescue=st.booleans())
    def tick(self, which: int, deaf: bool = False, rescue: bool = True) -> None:
        now, before = self.world.clock.now, self.runs
        of_tick = OfTick(now)
        due = {id: instants.must_have_run(owed, owed.answered_until, now) for id, owed in self.owed.items()}
        with self.step(of_tick.may, may_plan=True):
            self.world.tick(which, deaf=deaf, rescue_too=rescue)
            self.ticked = True
        for owed in self.owed.values():
            owed.ticked(now)
        instants.check(self.owed, ticked_at=now)
        of_tick.check_nothing_left(before, self.runs)
        self._check_fresh(due, self.runs.keys() - before.keys())

    def _check_fresh(self, due: dict[int, list[Any]], new: set[int]) -> None:
        free = Task.objects.filter(paused=False, overlap=Overlap.ALLOW).values_list("pk", flat=True)
        made = set(Run.objects.filter(pk__in=new).values_list("schedule_id", "nominal_at"))
        for id, fresh in due.items():
            if self.owed[id].task in free and self.owed[id].exact:
                missing = [at for at in fresh if (id, at) not in made]
                assert not missing, f"schedule {id} is free to fire and has not: {missing}"

    @rule(seconds=st.sampled_from([0.5, 1, 4, 6, 11, 20, 45, 61, 130]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        for hand in self.world.hands:
            hand.beat()

    @rule(seconds=st.sampled_from([5, 16, 40]))
    def time_passes_without_a_beat(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3600, -600, -90, -5, 90, 1800, 7200, 36_000]))
    def clock_jumps(self, seconds: float) -> None:
        self.world.clock.jump(seconds)
        self.jumped = True

    def _fresh(self, which: int) -> Task:
        return Task.objects.select_related("version", "project", "pool").get(pk=self.tasks[which % len(self.tasks)].pk)

    def _run_out(self) -> None:
        """With everything let go and workers that succeed, every run comes to its end: nothing was lost on the way."""
        clock = self.world.clock
        clock.now = max(clock.now, clock.latest)
        for id in list(self.owed):
            schedules.delete(SYSTEM, Schedule.objects.select_related("task").get(pk=id), now=clock.now)
        self.owed = {}
        for place in range(len(self.tasks)):
            pauses.resume(SYSTEM, self._fresh(place), now=clock.now)
        for run in Run.objects.filter(state="waiting", held=True).select_related("task"):
            runs.unhold(SYSTEM, run, now=clock.now)
        # Not all at once would take longer, and says no more.
        Task.objects.update(max_concurrent=None, overlap=Overlap.ALLOW)
        Pool.objects.update(slots=None)
        hands = [self.world.hire(pool) for pool in {hand.pool.pk: hand.pool for hand in self.world.hands}.values()]
        self.runs = look()
        left: list[Any] = []
        for _ in range(LIVENESS_ROUNDS):
            self.tick(0)
            while self.world.broker.queue:
                pool, pairs = self.world.broker.queue.pop()
                next(hand for hand in hands if hand.pool.name == pool).take(pairs)
            for hand in hands:
                for active in hand.begun:
                    hand.end(active, Result(RunState.SUCCEEDED))
            self.runs = look()
            left = [run for run in self.runs.values() if run.state not in TERMINAL]
            if not left:
                return
            farthest = max(run.due_at for run in left)
            if not [run for run in left if run.state in LIVE] and farthest > clock.now:
                clock.advance((farthest - clock.now).total_seconds())
            clock.advance(14)
            for hand in hands:
                hand.beat()
        raise AssertionError(f"I8: these {len(left)} runs never end: {left[:2]}")
