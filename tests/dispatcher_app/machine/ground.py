"""What the machine stands on: its beginning, dispatchers and time, the comparison after each step, its end."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.apps import apps
from django.core.management.color import no_style
from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from access_app.actors import system_actor
from monitoring_app.invariants import check_invariants
from tasks_app.dependencies import TriggerRule
from tasks_app.errors import SchedulerError
from tasks_app.models import Backfill, Pool, Resource, Run, RunPeriod, Schedule, Task, TaskResource
from tasks_app.models.task import Overlap
from tasks_app.services import backfills, pauses, runs, schedules
from tasks_app.states import LIVE, TERMINAL, RunState
from tests.dispatcher_app.machine import instants, processes, snapshot
from tests.dispatcher_app.machine.announcing import Announcing
from tests.dispatcher_app.machine.gates import Gates
from tests.dispatcher_app.machine.hands import Hand
from tests.dispatcher_app.machine.moves import Moves
from tests.dispatcher_app.machine.scene import Feature, Scene
from tests.dispatcher_app.machine.snapshot import May, look, nothing
from tests.dispatcher_app.machine.ticks import OfTick
from tests.dispatcher_app.machine.world import World
from tests.tasks_app.making import default_pool
from workers_app.jobs import Active, Result

SYSTEM = system_actor("machine")
# Nobody ends a run at its limit of time here, nor hurries.
NOT_ASKED = ("I5", "I8")
pick = st.integers(0, 11)
LIVENESS_ROUNDS = 60
MANY = 1000


def check_by_command(now: datetime) -> None:
    """What `check_invariants` says. Its times are those of one clock, so that it is no judge of one that jumps."""
    asked = [one for one in check_invariants(now, since=None) if one.invariant not in NOT_ASKED]
    assert not asked, f"{asked}"


def _count_from_the_start() -> None:
    """PostgreSQL does not roll its sequences back. Jitter and the order of runs hang on ids: with others, an example
    would go another way each time it is played."""
    resets = connection.ops.sequence_reset_sql(no_style(), apps.get_models())
    if resets:
        with connection.cursor() as cursor:
            cursor.execute("".join(resets))


class Ground(RuleBasedStateMachine):
    """One example: a world inside a transaction that is rolled back at its end."""

    wanted: ClassVar[frozenset[Feature]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.atomic: Any = None
        self.sound = self.ticked = self.jumped = False

    @initialize(
        features=st.sets(st.sampled_from(Feature), max_size=4),
        policy=st.sampled_from(Overlap.values),
        trigger_rule=st.sampled_from([rule.value for rule in TriggerRule]),
        catch_up=st.sampled_from(["none", "last", "all"]),
        limit=st.integers(1, 3),
    )
    def begin(self, features: set[Feature], policy: str, trigger_rule: str, catch_up: str, limit: int) -> None:
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        _count_from_the_start()
        self.world = World(self.patches)
        self.runs: snapshot.Runs = {}
        self.keys: dict[tuple[int, str], int] = {}
        # Periods whose end was told in a tick before.
        self.settled: set[int] = set()
        self.scene = Scene(SYSTEM, self.world.clock.now, self.wanted or frozenset(features), catch_up)
        self.scene.build(policy, trigger_rule, limit)
        self.tasks, self.owed = self.scene.tasks, self.scene.owed
        self.gates = Gates(self.scene.target)
        for pool in (default_pool(), default_pool(), Pool.objects.get(name="small")):
            self.world.hire(pool)
        self.sound = True

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
        processes.check(self.world.processes(), self.runs, self.world.clock.steady)
        if self.ticked and not self.jumped:
            check_by_command(self.world.clock.now)
        self.ticked = False
        self.sound = True

    @rule(which=st.integers(0, 1), deaf=st.sampled_from([False, False, False, True]), rescue=st.booleans())
    def tick(self, which: int, deaf: bool = False, rescue: bool = True) -> None:
        now, before = self.world.clock.now, self.runs
        of_tick = OfTick(now, before, lambda: self.runs)
        announcing = Announcing(now, before, self.world.broker.queue, rescue=rescue, deaf=deaf)
        due = self._due(now)
        with self.step(of_tick.may, may_plan=True):
            published = self.world.tick(which, deaf=deaf, rescue_too=rescue)
            self.ticked = True
        for owed in self.owed.values():
            owed.ticked(now)
        instants.check(self.owed, ticked_at=now)
        of_tick.check(self.gates, self.settled)
        announcing.check(self.runs, published)
        new = [run for id, run in self.runs.items() if id not in before]
        self._check_fired(due, new)
        for run in new:
            self._check_planned(run)
        if self.scene.delayed is not None:
            instants.check_delayed(self.scene.delayed, before, self.runs, now)

    def _due(self, now: datetime) -> dict[int, list[datetime]]:
        """{schedule: instants} that a tick at `now` has to make runs of."""
        # Before the tick, which ends pauses that are over; until when they lasted their instants are not fired.
        free = set(Task.objects.filter(paused=False, overlap=Overlap.ALLOW).values_list("pk", flat=True))
        exact = {id: owed for id, owed in self.owed.items() if owed.exact and owed.task in free}
        return {id: instants.must_have_run(owed, owed.answered_until, now) for id, owed in exact.items()}

    def _check_fired(self, due: dict[int, list[datetime]], new: Collection[snapshot.Seen]) -> None:
        made = {(run.schedule_id, run.nominal_at) for run in new}
        for id, instants_due in due.items():
            missing = [at for at in instants_due if (id, at) not in made]
            assert not missing, f"schedule {id} is free to fire and has not: {missing}"

    def _check_planned(self, run: snapshot.Seen) -> None:
        owed = self.owed.get(run.schedule_id or 0)
        if owed is not None:
            instants.check_planned(owed, run)
            late = owed.deadline and run.due_at + timedelta(seconds=owed.deadline)
            assert run.expires_at == late, f"{run} has its start deadline not at {late}"

    @rule(seconds=st.sampled_from([0.5, 1, 4, 6, 11, 20, 45, 61, 130]))
    def time_passes(self, seconds: float) -> None:
        with self.step():
            self.world.time_passes(seconds)
        for hand in self.world.hands:
            hand.check(seconds)

    @rule(seconds=st.sampled_from([5, 16, 40]))
    def time_passes_without_a_beat(self, seconds: float) -> None:
        """As when the machine that all workers are on stands still; their reapers only notice that time has passed."""
        with self.step():
            self.world.time_passes(seconds, frozen=True)

    @rule(seconds=st.sampled_from([-3600, -600, -90, -5, 90, 1800, 7200, 36_000]))
    def clock_jumps(self, seconds: float) -> None:
        self.world.clock.jump(seconds)
        self.jumped = True
        if seconds < 0:
            self.gates.set_back()

    def note_end(self, hand: Hand, active: Active, answered: bool | None) -> None:
        """Tell the model before an attempt ends what it says of its target (None: nothing)."""
        run = self.runs.get(active.job.run_id)
        if run is not None and run.owned_by(hand.id, active.job.attempt):
            users = TaskResource.objects.values_list("task_id", flat=True)
            self.gates.ended(run, answered, set(users))

    def _fresh(self, which: int) -> Task:
        return Task.objects.select_related("version", "project", "pool").get(pk=self.tasks[which % len(self.tasks)].pk)

    def _run_out(self) -> None:
        """With everything let go and workers that succeed, every run comes to its end: nothing was lost on the way."""
        clock = self.world.clock
        clock.now = max(clock.now, clock.latest)
        for id in [*self.owed, *([self.scene.delayed] if self.scene.delayed else [])]:
            schedules.delete(SYSTEM, Schedule.objects.select_related("task").get(pk=id), now=clock.now)
        self.owed, self.scene.delayed = {}, None
        for place in range(len(self.tasks)):
            pauses.resume(SYSTEM, self._fresh(place), now=clock.now)
        for run in Run.objects.filter(state="waiting", held=True).select_related("task"):
            runs.unhold(SYSTEM, run, now=clock.now)
        for backfill in Backfill.objects.filter(state="paused").select_related("task"):
            with suppress(SchedulerError):
                backfills.resume(SYSTEM, backfill, now=clock.now)
        # Not all at once would take longer, and says no more. Breakers close by themselves.
        unrated = {"rate_limit": None, "rate_window_seconds": None}
        Task.objects.update(max_concurrent=None, overlap=Overlap.ALLOW, max_concurrent_per_key=MANY, **unrated)
        Pool.objects.update(slots=None)
        Resource.objects.update(capacity=None, calendar=None, **unrated)
        Backfill.objects.update(max_concurrent=MANY)
        pools = {hand.pool.pk: hand.pool for hand in self.world.hands}
        for hand in self.world.hands:
            hand.frozen = True
        hands = [self.world.hire(pool) for pool in pools.values()]
        self.runs = look()
        left: list[Any] = []
        for _ in range(LIVENESS_ROUNDS):
            self.tick(0)
            while self.world.broker.queue:
                pool, pairs = self.world.broker.queue.pop()
                next(hand for hand in hands if hand.pool.name == pool).take(pairs)
            self.runs = look()
            for hand in hands:
                for active in hand.begun:
                    self.note_end(hand, active, True)
                    hand.end(active, Result(RunState.SUCCEEDED))
            self.runs = look()
            # A period in which nothing succeeds is waited for as long as it takes: each tick has looked at that.
            patient = set(RunPeriod.objects.filter(settled=False).values_list("run_id", flat=True))
            left = [run for run in self.runs.values() if run.state not in TERMINAL and run.id not in patient]
            if not left:
                return
            farthest = max(run.due_at for run in left)
            if not [run for run in left if run.state in LIVE] and farthest > clock.now:
                self.world.time_passes((farthest - clock.now).total_seconds())
            self.world.time_passes(14)
        raise AssertionError(f"I8: these {len(left)} runs never end: {left[:2]}")
