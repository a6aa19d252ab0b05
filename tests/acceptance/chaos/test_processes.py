"""Two dispatchers and three workers under load, killed, stopped and let go on at random.

TEST_LONG=1: 200 kills at the length of lease that an installation has, instead of 10 (30 in `make test-chaos`) at a
short one.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles

import pytest

from tests.acceptance.chaos.load import CHAOS, QUICK, schedule_work, wait_until_over
from tests.acceptance.work import LONG, RECOVERY_SECONDS, create_task, say, states, trigger
from tests.services import Child, ProcessStack
from workers_app.marks import Origin, marked

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]

KILLS = 200 if LONG else 30 if CHAOS else 10
MEDIAN_SECONDS = 20
COMMANDS = {"dispatcher": ["run_dispatcher"], "worker": ["run_worker", "--concurrency", "6"]}
# Shorter than what the reaper of a worker takes for death, and longer than a lease.
NAP, COMA = ((0.5, 5.0), (17.0, 25.0)) if LONG else ((0.2, 1.0), (5.0, 7.0))


@dataclass
class Crew:
    """The processes, of which some are dead, some frozen, and some start."""

    stack: ProcessStack
    chance: random.Random
    alive: list[Child] = field(default_factory=list)
    frozen: dict[Child, float] = field(default_factory=dict)
    # (number of the process, when): of those that were killed, or frozen for longer than a lease.
    deaths: list[tuple[int, float]] = field(default_factory=list)
    kills: int = 0
    stops: int = 0

    def start(self, kind: str) -> Child:
        child = self.stack.start(kind, [sys.executable, "manage.py", *COMMANDS[kind]], {} if LONG else QUICK)
        self.alive.append(child)
        return child

    def step(self) -> None:
        """One thing that happens to one of them; what is due to go on goes on, what has ended is started anew."""
        for child in [child for child, until in self.frozen.items() if until <= time.monotonic()]:
            del self.frozen[child]
            child.thaw()
        self.replace()
        # Each time others are left that serve: what is asked is when they take over, not how fast this machine starts
        # processes. Both dispatchers at once are killed in test_chaos.py.
        serving = [child for child in self.alive if child not in self.frozen and child.events("ready")]
        spared = [child for child in serving if sum(_kind(one) == _kind(child) for one in serving) > 1]
        if not spared:
            return
        doomed = self.chance.choice(spared)
        luck = self.chance.random()
        if luck < 0.25 and len(self.frozen) < 2:
            length = self.chance.uniform(*(COMA if luck < 0.05 else NAP))
            self.deaths += [(doomed.process.pid, time.time())] if luck < 0.05 else []
            self.stops += 1
            self.frozen[doomed] = time.monotonic() + length
            doomed.freeze()
        else:
            self.deaths.append((doomed.process.pid, time.time()))
            self.kills += 1
            doomed.kill()
            self.replace()

    def replace(self) -> None:
        for child in [child for child in self.alive if child.process.poll() is not None]:
            self.alive.remove(child)
            self.start(_kind(child))

    def wake_all(self) -> None:
        for child in self.frozen:
            child.thaw()
        self.frozen.clear()


def _kind(child: Child) -> str:
    return child.name.rstrip("0123456789")


def test_processes_killed_and_frozen_again_and_again_lose_nothing_and_do_nothing_twice(stack, history, capsys):
    crew = Crew(stack, random.Random(20260303))
    for kind in ("dispatcher", "dispatcher", "worker", "worker", "worker"):
        crew.start(kind)
    pause = (1.0, 4.5) if LONG else (0.3, 3.0)
    seconds = int(KILLS * 6) if LONG else int(KILLS * 2.5)
    schedule_work(stack, history, seconds=seconds, step=2, tasks=4, beats=12 if LONG else 8)
    for child in crew.alive:
        child.wait_ready()
    began = time.monotonic()
    while crew.kills < KILLS:
        time.sleep(crew.chance.uniform(*pause))
        crew.step()
    crew.wake_all()
    said = f"{crew.kills} kills and {crew.stops} stops in {time.monotonic() - began:.0f} s"
    wait_until_over(stack, seconds + 3 * RECOVERY_SECONDS)
    faults, recoveries = history.faults(stack), list(_recoveries(stack, crew.deaths))
    assert recoveries, "no run was under way at any death"
    p50, p99 = _spread([again for _given_up, again in recoveries])
    noticed = "{:.1f} s (median), {:.1f} s (p99)".format(*_spread([given_up for given_up, _again in recoveries]))
    said += f": {states(stack)}; {len(recoveries)} runs under way at a death: given up after {noticed}, their new"
    say(capsys, f"{said} attempt or recorded loss after {p50:.1f} s (median), {p99:.1f} s (p99)")
    assert faults == []
    assert p50 < MEDIAN_SECONDS
    assert p99 < RECOVERY_SECONDS


@pytest.mark.long
def test_a_worker_frozen_until_its_reaper_has_ended_its_runs_does_not_take_that_for_their_own_end(stack, history):
    lease = {"SCHEDULER_LEASE_SECONDS": "6", "SCHEDULER_HEARTBEAT_SECONDS": "1"}
    stack.dispatcher()
    frozen = stack.worker(**lease)
    command = history.command(25)
    tasks = [create_task(stack, name, "shell", command, retry_on_lost=name == "again") for name in ("again", "once")]
    trigger(stack, *((task, 1) for task in tasks))
    stack.wait_for("two runs under way", lambda: len(history.starts()) == 2, RECOVERY_SECONDS)
    beat = stack.value("select beat_at from workers_app_worker")
    stack.wait_for("a beat", lambda: stack.value("select beat_at from workers_app_worker") != beat, RECOVERY_SECONDS)
    frozen.freeze()
    stack.wait_for("the end of its runs", lambda: not _processes(stack), RECOVERY_SECONDS)
    frozen.thaw()
    stack.wait_for("its end", lambda: frozen.process.poll() == 70, RECOVERY_SECONDS)
    stack.worker(**lease)
    stack.wait_for("both ends", lambda: states(stack) == {"succeeded": 1, "lost": 1}, 2 * RECOVERY_SECONDS)
    assert history.faults(stack) == []


def _spread(seconds: list[float]) -> tuple[float, float]:
    """Median and p99."""
    return median(seconds), quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]


def _recoveries(stack: ProcessStack, deaths: list[tuple[int, float]]) -> Iterator[tuple[float, float]]:
    """Of each run that was under way at a death: seconds until it was given up, and until its next start or its end."""
    for pid, at in deaths:
        for given_up, again in stack.rows(_NEXT, [at, at, pid, at, at]):
            assert again is not None, f"nothing came of a run after the death of {pid}"
            yield float(given_up), float(again)


# Runs that process had started at the time, and their next start or their end.
_NEXT = """select
    (select extract(epoch from min(later.at)) from tasks_app_runevent later
        where later.run_id = start.run_id and later.id > start.id) - %s,
    (select extract(epoch from min(later.at)) from tasks_app_runevent later
        where later.run_id = start.run_id and later.id > start.id
        and later.to_state not in ('waiting', 'queued')) - %s
    from tasks_app_runevent start join workers_app_worker worker on start.actor = 'worker ' || worker.name
    where worker.pid = %s and start.to_state = 'running' and start.at <= to_timestamp(%s) and not exists (
        select from tasks_app_runevent later where later.run_id = start.run_id and later.id > start.id
        and later.at <= to_timestamp(%s))"""


def _processes(stack: ProcessStack) -> dict[int, Origin]:
    """What is alive of the runs of all workers."""
    return {
        pid: run for (key,) in stack.rows("select id from workers_app_worker") for pid, run in marked(str(key)).items()
    }
