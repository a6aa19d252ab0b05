"""One ready run, while 100,000 others wait behind closed gates: how long does a dispatcher take to release it?

PostgreSQL and RabbitMQ; everything is measured in one run on one database. Each sample makes one ready run and times
one whole tick of a dispatcher without its look for dead workers: firing, acceptance, expiry, release, publishing.
Timed beside it, as a part of it, is the release alone. The lower quartile of the samples is compared with that of the
same database without any waiting run, measured before and after the kinds.

The 100,000 runs belong to one task, or to 1,000 tasks, whose gates are closed in one of these ways: the tasks are
paused; they have as many live runs as they may; their pool is full; the runs are held; they fall due later; the
circuit breaker of a resource is open; the concurrency key of the runs has all its live runs.

Prints a table; `--json` for programs, `--short` for a quick try. Exits with 1 when a tick takes more than twice as
long.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any
from unittest.mock import patch

from benchmarks import ground
from tests import services

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"runs": 10_000, "tasks": 100, "samples": 7}
KINDS = ("paused", "task full", "pool full", "held", "due later", "breaker open", "key full")
MOST = 2.0
# Ticks that fill caches and do not count.
WARM_UP = 3
BATCH = 10_000


def main() -> int:
    options = _options()
    if options.inside:
        print(json.dumps(_measure(options)))
        return 0
    with ExitStack() as undo:
        directory, template = undo.enter_context(ground.template())
        rows: list[dict[str, Any]] = []
        for tasks in (1, options.tasks):
            stack = services.ProcessStack(directory, template)
            undo.callback(stack.close)
            numbers = ["--runs", str(options.runs), "--tasks", str(tasks), "--samples", str(options.samples)]
            command = [sys.executable, "-m", "benchmarks.closed_gates", "--inside", *numbers]
            done = subprocess.run(command, cwd=ROOT, env=stack.environ, stdout=subprocess.PIPE, text=True, check=True)
            rows += json.loads(done.stdout)
    worst = max(row["ratio"] for row in rows)
    if options.json:
        print(json.dumps({"rows": rows, "worst_ratio": worst}))
    else:
        _print(rows, worst)
    return 0 if worst <= MOST else 1


def _print(rows: list[dict[str, Any]], worst: float) -> None:
    print(f"{'behind closed gates':24}{'runs':>9}{'tasks':>7}{'tick ms':>10}{'ratio':>8}{'release ms':>12}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['kind']:24}{row['runs']:>9}{row['tasks']:>7}{row['tick_ms']:>10}{row['ratio']:>7}x"
            f"{row['release_ms']:>12}{row['release_ratio']:>7}x"
        )
    print(f"worst tick: {worst}x (at most {MOST}x)")


def _measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    import django

    django.setup()
    scene = Scene(options.tasks)
    before = scene.sample(options.samples)
    scene.fill(options.runs)
    found = {}
    for kind in KINDS:
        scene.close(kind)
        found[kind] = scene.sample(options.samples)
        scene.open(kind)
    scene.clear()
    after = scene.sample(options.samples)
    base = [_typical(one + other) for one, other in zip(before, after, strict=True)]
    rows = [_row("nothing", 0, options.tasks, base, base)]
    return rows + [
        _row(kind, options.runs, options.tasks, [_typical(times) for times in found[kind]], base) for kind in KINDS
    ]


def _typical(seconds: list[float]) -> float:
    """The lower quartile: what else the machine does only makes ticks longer."""
    return quantiles(seconds, n=4)[0]


def _row(kind: str, runs: int, tasks: int, seconds: list[float], base: list[float]) -> dict[str, Any]:
    (tick, release), (base_tick, base_release) = seconds, base
    return {
        "kind": kind,
        "runs": runs,
        "tasks": tasks,
        "tick_ms": round(tick * 1000, 1),
        "ratio": round(tick / base_tick, 2),
        "release_ms": round(release * 1000, 1),
        "release_ratio": round(release / base_release, 2),
    }


class Scene:
    """One open task, and tasks whose gates are closed in one way after the other."""

    def __init__(self, count: int) -> None:
        from dispatcher_app.loop import Dispatcher
        from tasks_app.models import Pool, Project, Resource, Task, TaskResource, TaskVersion

        project, pool = Project.objects.get(name="default"), Pool.objects.get(name="default")
        self.crowded = Pool.objects.create(name="crowded")
        self.resource = Resource.objects.create(name="target")
        self.plain = pool
        self.free = Task.objects.create(project=project, pool=pool, name="free")
        tasks = [Task(project=project, pool=pool, name=f"closed {n}") for n in range(count)]
        self.tasks = Task.objects.bulk_create(tasks, batch_size=BATCH)
        everything = [self.free, *self.tasks]
        spec = {"number": 1, "executor": "callable", "command": "workers_app.samples.noop"}
        versions = TaskVersion.objects.bulk_create([TaskVersion(task=task, **spec) for task in everything])
        for task, version in zip(everything, versions, strict=True):
            task.version = version
        Task.objects.bulk_update(everything, ["version"], batch_size=BATCH)
        TaskResource.objects.bulk_create([TaskResource(task=task, resource=self.resource) for task in self.tasks])
        self.dispatcher = Dispatcher()
        self.live: list[int] = []

    def sample(self, number: int) -> tuple[list[float], list[float]]:
        """Seconds of whole ticks, and of the release in each."""
        from dispatcher_app.release import release_ready
        from tasks_app import transitions

        ticks: list[float] = []
        releases: list[float] = []

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            released = release_ready(*arguments, **named)
            releases.append(time.perf_counter() - started)
            return released

        with patch("dispatcher_app.loop.release_ready", timed):
            for _ in range(number + WARM_UP):
                now = datetime.now(UTC)
                (id,) = self._plan([self.free], now)
                started = time.perf_counter()
                report = self.dispatcher.tick(now, rescue_too=False)
                ticks.append(time.perf_counter() - started)
                assert report.released == report.published == 1, report
                transitions.cancel_unstarted([id], now=now, actor="benchmark")
        return ticks[WARM_UP:], releases[WARM_UP:]

    def fill(self, runs: int) -> None:
        """So many waiting runs, the same number of each closed task; they are behind no gate yet."""
        self._plan(self.tasks * (runs // len(self.tasks)), datetime.now(UTC))

    def close(self, kind: str) -> None:
        from tasks_app.models import Pool, Resource, Run

        self._gate(kind, shut=True)
        if kind in ("task full", "pool full", "key full"):
            now = datetime.now(UTC)
            self.live = self._plan(self.tasks if kind != "pool full" else self.tasks[:1], now)
            if kind == "key full":
                Run.objects.filter(pk__in=self.live).update(concurrency_key="k")
            if kind == "pool full":
                Run.objects.filter(pk__in=self.live).update(pool=self.crowded)
                Pool.objects.filter(pk=self.crowded.pk).update(slots=1)
            self._enqueue(now)
        if kind == "breaker open":
            until = datetime.now(UTC) + timedelta(days=1)
            Resource.objects.update(breaker_state="open", breaker_open_until=until)
        self._vacuum()

    def open(self, kind: str) -> None:
        from tasks_app import transitions
        from tasks_app.models import Pool, Resource

        self._gate(kind, shut=False)
        transitions.cancel_unstarted(self.live, now=datetime.now(UTC), actor="benchmark")
        self.live = []
        Pool.objects.update(slots=None)
        Resource.objects.update(breaker_state="closed", breaker_open_until=None)

    def clear(self) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE tasks_app_run CASCADE")
        self._vacuum()

    def _gate(self, kind: str, *, shut: bool) -> None:
        from django.db.models import F

        from tasks_app.models import Run, Task

        closed = Task.objects.exclude(pk=self.free.pk)
        waiting = Run.objects.filter(state="waiting")
        day = timedelta(days=1) if shut else -timedelta(days=1)
        match kind:
            case "paused":
                closed.update(paused=shut, pause_mode="queue")
            case "task full":
                closed.update(max_concurrent=1 if shut else None)
            case "pool full":
                closed.update(pool=self.crowded if shut else self.plain)
            case "held":
                waiting.update(held=shut)
            case "due later":
                waiting.update(due_at=F("due_at") + day)
            case "key full":
                waiting.update(concurrency_key="k" if shut else "")

    @staticmethod
    def _plan(tasks: list[Any], now: datetime) -> list[int]:
        """A run of each of the tasks, which may repeat."""
        from tasks_app.models.run import RunType
        from tasks_app.planning import Firing, plan_runs

        ids: list[int] = []
        for start in range(0, len(tasks), BATCH):
            firings = [Firing(task, RunType.MANUAL, now) for task in tasks[start : start + BATCH]]
            ids += [id for id in plan_runs(firings, now=now, actor="benchmark").run_ids if id is not None]
        return ids

    def _enqueue(self, now: datetime) -> None:
        from tasks_app import transitions

        # The sweep lies ahead: nobody is to publish these again meanwhile.
        moved = transitions.enqueue(self.live, now=now, sweep_at=now + timedelta(days=1), actor="benchmark")
        assert len(moved) == len(self.live)

    @staticmethod
    def _vacuum() -> None:
        from django.db import connection

        # Else the database would clean up and write back on its own, in the middle of some kind.
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE tasks_app_run SET (autovacuum_enabled = false)")
            cursor.execute("VACUUM ANALYZE")
            cursor.execute("CHECKPOINT")


def _options() -> argparse.Namespace:
    parser = ground.parser(__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="runs behind closed gates (default: %(default)s)")
    parser.add_argument(
        "--tasks", type=int, default=1_000, help="tasks that they belong to (default: 1 and %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=25, help="ticks of each kind (default: %(default)s)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return ground.options(parser, SHORT)


if __name__ == "__main__":
    sys.exit(main())
