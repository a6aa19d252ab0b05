"""Durable no-op runs end to end, beside the usual Celery + one ORM row per run, in one run on the same servers.

Ours: rows created by trigger-batch, one dispatcher, two worker processes; every run has its row, four events (created,
queued, running, succeeded), its times and its worker. The peer: rows created and announced one by one, two prefork
worker processes, a row saved at start and at end. The clock runs from the start of the submitting process's work to the
last finished row. Prints a table and the ratio; `--json` for programs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import environment, services

ROOT = Path(__file__).resolve().parent.parent
NOOP = {
    "name": "noop",
    "executor": "callable",
    "command": "workers_app.samples.noop",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000, help="no-op runs for ours (default: %(default)s)")
    parser.add_argument("--peer-runs", type=int, default=3_000, help="no-op runs for the peer (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment.prepare()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        directory = Path(folder)
        template = f"bench_template_{os.getpid()}"
        services.create_template(template, directory)
        try:
            peer = measure_peer(options.peer_runs, directory, template)
            ours = measure_ours(options.runs, directory, template)
        finally:
            environment.administer(f'DROP DATABASE IF EXISTS "{template}" WITH (FORCE)')
    result = {"peer": peer, "ours": ours, "ratio": round(ours["runs_per_second"] / peer["runs_per_second"], 1)}
    print(json.dumps(result) if options.json else _table(result))
    return 0


def measure_ours(count: int, directory: Path, template: str) -> dict[str, Any]:
    """Our side: {runs, seconds, runs_per_second, events}."""
    stack = services.ProcessStack(directory, template)
    try:
        stack.run("shell", "-c", _create_task())
        stack.dispatcher()
        for _ in range(2):
            stack.worker("--warm", "1", concurrency=2)
        _warm(stack, "ours", "select count(*) from tasks_app_run where state <> 'succeeded'")
        before = stack.value("select count(*) from tasks_app_run")
        seconds = _timed(
            stack,
            ["ours", str(count)],
            lambda: stack.value("select count(*) from tasks_app_run where state = 'succeeded'") == before + count,
        )
        events = stack.value("select count(*) from tasks_app_runevent")
        assert events == 4 * (before + count), f"{events} events for {before + count} runs"
        return {
            "runs": count,
            "seconds": round(seconds, 2),
            "runs_per_second": round(count / seconds),
            "events": events,
        }
    finally:
        stack.close()


def measure_peer(count: int, directory: Path, template: str) -> dict[str, Any]:
    """The peer's side: {runs, seconds, runs_per_second}."""
    stack = services.ProcessStack(directory, template)
    try:
        stack.rows(_PEER_TABLE)
        stack.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.peer.celery", "worker", "-P", "prefork", "-c", "2"]
        stack._start("peer", [*command, "--loglevel", "WARNING"], {})
        _warm(stack, "peer", "select count(*) from peer_jobrow where state <> 'done'")
        before = stack.value("select count(*) from peer_jobrow")
        seconds = _timed(
            stack,
            ["peer", str(count)],
            lambda: stack.value("select count(*) from peer_jobrow where state = 'done'") == before + count,
        )
        return {"runs": count, "seconds": round(seconds, 2), "runs_per_second": round(count / seconds)}
    finally:
        stack.close()


_PEER_TABLE = """create table peer_jobrow (id bigserial primary key, state varchar(10) not null,
    created_at timestamptz not null, started_at timestamptz, finished_at timestamptz);
    create index on peer_jobrow (state)"""


def _create_task() -> str:
    return f"""
from django.utils import timezone
from access_app.actors import system_actor
from tasks_app.models import Pool, Project
from tasks_app.services import tasks
fields = {NOOP!r} | {{"project": Project.objects.get(name="default"), "pool": Pool.objects.get(name="default")}}
tasks.create(system_actor("benchmark"), fields, now=timezone.now())
"""


def _warm(stack: services.ProcessStack, side: str, unfinished: str) -> None:
    """A first few runs, so that neither side pays for imports and connections in the measured part."""
    _submit(stack, [side, "50"]).wait()
    stack.wait_for("the warm-up", lambda: stack.value(unfinished) == 0, 60)


def _timed(stack: services.ProcessStack, arguments: list[str], done: Callable[[], bool]) -> float:
    started = time.monotonic()
    submitting = _submit(stack, arguments)
    stack.wait_for("all runs", done, 600)
    seconds = time.monotonic() - started
    assert submitting.wait() == 0
    return seconds


def _submit(stack: services.ProcessStack, arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.submit", *arguments], cwd=ROOT, env=stack.environ)


def _table(result: dict[str, Any]) -> str:
    rows = [("Celery + one ORM row per run", result["peer"]), ("this scheduler", result["ours"])]
    lines = [f"{'':32}{'runs':>8}{'seconds':>10}{'runs/s':>10}"]
    lines += [f"{name:32}{side['runs']:>8}{side['seconds']:>10}{side['runs_per_second']:>10}" for name, side in rows]
    return "\n".join([*lines, f"ratio: {result['ratio']}x"])


if __name__ == "__main__":
    sys.exit(main())
