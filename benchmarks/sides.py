"""The two sides that throughput.py measures: how each is started, given runs, and seen to be done with them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.services import ProcessStack

ROOT = Path(__file__).resolve().parent.parent
SLOTS = 2
LONGEST_SECONDS = 600
_CREATE_TASK = """
from django.utils import timezone
from access_app.actors import system_actor
from tasks_app.models import Pool, Project
from tasks_app.services import tasks
fields = {"name": "noop", "executor": "callable", "command": "workers_app.samples.noop"}
fields |= {"project": Project.objects.get(name="default"), "pool": Pool.objects.get(name="default")}
tasks.create(system_actor("benchmark"), fields, now=timezone.now())
"""
_PEER_TABLE = """create table peer_jobrow (id bigserial primary key, state varchar(10) not null,
    created_at timestamptz not null, started_at timestamptz, finished_at timestamptz);
    create index on peer_jobrow (state)"""


class Side:
    """One side on a stack of its own: `prepare` once, then runs by `submitting`."""

    name: ClassVar[str]
    label: ClassVar[str]
    table: ClassVar[str]
    # States of runs that have not ended, and of runs that may wait for a worker.
    live: ClassVar[str]
    backlog: ClassVar[str]

    def __init__(self, stack: ProcessStack) -> None:
        self.stack = stack
        self.submitted = 0

    def prepare(self) -> None:
        """Make what runs need before there are workers."""
        raise NotImplementedError

    def start_workers(self) -> None:
        """Start workers with SLOTS slots in all; it does not wait until they serve."""
        raise NotImplementedError

    @contextmanager
    def submitting(self, count: int) -> Iterator[float]:
        """Submit so many runs; gives the time (of time.time) at which the submitting process was told to begin."""
        command = [sys.executable, "-m", "benchmarks.submit", self.name, str(count)]
        with subprocess.Popen(
            command, cwd=ROOT, env=self.stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdin is not None and process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                began = time.time()
                process.stdin.write("go\n")
                process.stdin.flush()
                yield began
                assert process.wait(LONGEST_SECONDS) == 0
            finally:
                process.kill()
        self.submitted += count

    def submit(self, count: int) -> float:
        """Submit so many runs to the end; the time at which it began."""
        with self.submitting(count) as began:
            pass
        return began

    def wait_for_all(self) -> None:
        """Wait until every run that was submitted has ended, and check that it ended well."""
        live = f"select exists (select from {self.table} where state in ({self.live}))"
        self.stack.wait_for("all runs", lambda: not self.stack.value(live), LONGEST_SECONDS)
        self.check()

    def wait_for_backlog(self) -> None:
        """Wait until every run that was submitted waits for a worker."""
        count = f"select count(*) from {self.table} where state in ({self.backlog})"
        self.stack.wait_for("the backlog", lambda: self.stack.value(count) == self.submitted, LONGEST_SECONDS)

    def check(self) -> None:
        """Raises AssertionError unless every run has left the trace that belongs to it."""
        raise NotImplementedError

    def first_start(self) -> float:
        """When the first run started, as time.time."""
        return float(self.stack.value(f"select extract(epoch from min(started_at)) from {self.table}"))


class Ours(Side):
    """One dispatcher, two worker processes of one slot each."""

    name, label, table = "ours", "this scheduler", "tasks_app_run"
    live, backlog = "'waiting', 'queued', 'running'", "'queued'"

    def prepare(self) -> None:
        self.stack.run("shell", "-c", _CREATE_TASK)
        self.stack.dispatcher()

    def start_workers(self) -> None:
        for _ in range(SLOTS):
            arguments = ["run_worker", "--pool", "default", "--concurrency", "1", "--warm", "1"]
            self.stack.start("worker", [sys.executable, "manage.py", *arguments], {})

    def check(self) -> None:
        ended = self.stack.value("select count(*) from tasks_app_run where state = 'succeeded' and attempt = 1")
        assert ended == self.submitted, f"{ended} of {self.submitted} runs succeeded"
        events = self.stack.value("select count(*) from tasks_app_runevent")
        assert events == 4 * self.submitted, f"{events} events for {self.submitted} runs"


class Peer(Side):
    """Celery with two prefork children and one ORM row per run."""

    name, label, table = "peer", "Celery + one ORM row per run", "peer_jobrow"
    live, backlog = "'pending', 'running'", "'pending'"

    def prepare(self) -> None:
        self.stack.rows(_PEER_TABLE)
        self.stack.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"

    def start_workers(self) -> None:
        command = ["-A", "benchmarks.peer.celery", "worker", "-P", "prefork", "-c", str(SLOTS), "--loglevel", "WARNING"]
        self.stack.start("peer", [sys.executable, "-m", "celery", *command], {})

    def check(self) -> None:
        ended = self.stack.value("select count(*) from peer_jobrow where state = 'done'")
        assert ended == self.submitted, f"{ended} of {self.submitted} rows are done"
