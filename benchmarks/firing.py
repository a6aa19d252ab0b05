"""Many schedules due in the same minute, beside django-celery-beat's DatabaseScheduler, on the same servers.

Both sides have as many schedules, each of a task of its own, all due in the same minute, and one process that serves
them: ours one dispatcher, the peer one `celery beat`. Nobody consumes. From the full minute until a message for each
schedule lies in the broker's queue: wall time, and CPU time of that one process.

What they do in this time is not the same. Ours inserts a run for each schedule under the unique key (schedule,
instant), so that a second dispatcher or a restart can add none, moves it to queued under its limits, writes the events
of both moves, and sets each schedule to its next instant, all committed before the message is sent and confirmed. The
peer sends the messages; no row says that a run was due, and `last_run_at` is saved some minutes later: who crashes
before sends again what was sent.

Each side is measured with all schedules on one cron expression; ours also with no two on the same one, where nothing
can be computed once for all. Prints a table and the ratios; `--json` for programs, `--short` for a quick try.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from kombu import Connection

from benchmarks import ground
from scripts.probes import RABBITMQ
from tests.services import Child, ProcessStack

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"schedules": 1_000, "peer_seconds": 120}
# Time to make the schedules and to start the process: some seconds, and some for each thousand of them.
LEAD_SECONDS, LEAD_PER_THOUSAND = 15, 4
LOOK_SECONDS = 0.1
LABELS = {
    ("ours", "same"): "this scheduler",
    ("ours", "distinct"): "this scheduler, every rule another",
    ("peer", "same"): "django-celery-beat",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """`messages` lay in the queue after `seconds`, for `cpu_seconds` of the one process, at most `megabytes` of it."""

    side: str
    rules: str
    schedules: int
    messages: int
    seconds: float
    cpu_seconds: float
    megabytes: int

    @property
    def per_second(self) -> float:
        return self.messages / self.seconds


def main() -> int:
    options = _options()
    say = (lambda _line: None) if options.json else print
    say(f"{'':38}{'schedules':>10}{'sent':>8}{'seconds':>10}{'CPU s':>9}{'sent/s':>10}{'MiB':>7}")
    with ground.template() as (directory, template):
        rounds = []
        for _ in range(options.rounds):
            one = {}
            for side, rules in [key for key in LABELS if options.side in (None, key[0])]:
                stack = ProcessStack(directory, template)
                try:
                    found = measure(stack, side, rules, options.schedules, options.peer_seconds)
                finally:
                    stack.close()
                one[side, rules] = found
                say(
                    f"{LABELS[side, rules]:38}{found.schedules:>10}{found.messages:>8}{found.seconds:>10.2f}"
                    f"{found.cpu_seconds:>9.2f}{found.per_second:>10.0f}{found.megabytes:>7}"
                )
            rounds.append(one)
            if options.side is None:
                say(f"ratio: {_ratio(one):.0f}x the schedules per second, {_cpu_ratio(one):.0f}x per CPU second\n")
    if options.json:
        print(json.dumps([[asdict(found) for found in one.values()] for one in rounds]))
    return 0


def measure(stack: ProcessStack, side: str, rules: str, count: int, peer_seconds: float) -> Measured:
    """Make the schedules, start the process, wait for the minute and then for the messages."""
    if side == "peer":
        stack.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"
    lead = timedelta(seconds=LEAD_SECONDS + LEAD_PER_THOUSAND * count / 1000)
    at = (datetime.now(UTC) + lead).replace(second=0, microsecond=0) + timedelta(minutes=1)
    fill = [sys.executable, "-m", "benchmarks.fill", side, str(count), at.isoformat(), rules]
    subprocess.run(fill, cwd=ROOT, env=stack.environ, check=True)
    stack.rows("analyze")
    child = stack.dispatcher() if side == "ours" else _beat(stack)
    process = psutil.Process(child.process.pid)
    assert datetime.now(UTC) < at, "the machine was too slow to be ready in time"
    time.sleep((at - datetime.now(UTC)).total_seconds())
    before = _cpu(process)
    began = at.timestamp()
    queue = f"{stack.prefix}.{'default' if side == 'ours' else 'peer'}"
    messages = _wait_for_messages(queue, count, began + (peer_seconds if side == "peer" else 600), child)
    seconds, cpu = time.time() - began, _cpu(process) - before
    if side == "ours":
        _check(stack, count, at)
    return Measured(side, rules, count, messages, seconds, cpu, process.memory_info().rss >> 20)


def _beat(stack: ProcessStack) -> Child:
    arguments = ["beat", "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler", "--loglevel", "WARNING"]
    directory = str(stack.directory / "beat.pid")
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peer.celery", *arguments, "--pidfile", directory]
    return stack.start("beat", command, {})


def _wait_for_messages(queue: str, count: int, deadline: float, child: Child) -> int:
    """How many messages lie in the queue once there are `count`, or when the time is up."""
    with Connection(RABBITMQ.url()) as connection:
        while True:
            found = _depth(connection, queue)
            if found >= count or time.time() > deadline:
                return found
            assert child.process.poll() is None, child.tail()
            time.sleep(LOOK_SECONDS)


def _depth(connection: Connection, queue: str) -> int:
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0  # nothing has been sent to it so far
    finally:
        channel.close()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _check(stack: ProcessStack, count: int, at: datetime) -> None:
    """Raises AssertionError unless the rows tell the same as the messages."""
    queued = f"select count(*) from tasks_app_run where state = 'queued' and nominal_at = '{at.isoformat()}'"
    assert stack.value(queued) == count
    assert stack.value("select count(*) from tasks_app_runevent") == 2 * count
    assert stack.value("select count(*) from tasks_app_schedule where next_fire_at > %s", [at]) == count


def _ratio(one: dict[tuple[str, str], Measured]) -> float:
    return one["ours", "same"].per_second / one["peer", "same"].per_second


def _cpu_ratio(one: dict[tuple[str, str], Measured]) -> float:
    per_cpu = {key: found.messages / found.cpu_seconds for key, found in one.items()}
    return per_cpu["ours", "same"] / per_cpu["peer", "same"]


def _options() -> argparse.Namespace:
    parser = ground.parser(__doc__)
    parser.add_argument("--schedules", type=int, default=20_000, help="on each side (default: %(default)s)")
    parser.add_argument(
        "--peer-seconds", type=int, default=900, help="give the peer no more time than this (default: %(default)s)"
    )
    parser.add_argument("--side", choices=("ours", "peer"), help="only this one")
    parser.add_argument("--rounds", type=int, default=1, help="how often all are measured (default: %(default)s)")
    return ground.options(parser, SHORT)


if __name__ == "__main__":
    sys.exit(main())
