"""A thousand runs at the same time on one worker: how long until all are under way, and what they cost it.

One dispatcher and one worker with as many slots as there are runs. `shell` runs sleep; `http` runs wait for the answer
of a server in this process, which answers nobody before all are there (or a minute has passed). Each kind comes twice:
what the worker holds after the second wave and did not hold after the first is what a wave leaves behind.

started: seconds from the trigger to the moment at which all of them are running. RSS: of the worker alone, in MiB, when
they are. The runs themselves are processes of their own, some 2 MiB each for `sleep`.

Prints a table; `--json` for programs, `--short` for a quick try.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import psutil

from benchmarks import ground
from tests import services
from tests.acceptance.work import create_task, states, trigger

SHORT = {"runs": 60, "seconds": 4}
LONGEST_SECONDS = 60.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass(frozen=True)
class Wave:
    """What one wave of runs cost."""

    kind: str
    runs: int
    started_seconds: float
    before_mib: float
    rss_mib: float
    cpu_seconds: float
    threads: int
    open_files: int


def main() -> int:
    parser = ground.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="runs at the same time (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="how long each shell run sleeps (default: %(default)s)")
    options = ground.options(parser, SHORT)
    with ground.template() as (directory, template):
        stack = services.ProcessStack(directory, template)
        try:
            waves = measure(stack, options.runs, options.seconds)
        finally:
            stack.close()
    if options.json:
        print(json.dumps([asdict(wave) for wave in waves]))
    else:
        print_table(waves)
    return 0


def measure(stack: services.ProcessStack, runs: int, seconds: int) -> list[Wave]:
    """Two waves of each kind on a worker with a slot for each run. Every run must succeed at its first attempt."""
    stack.dispatcher()
    worker = stack.worker(concurrency=runs, SCHEDULER_HTTP_ALLOW="127.0.0.0/8")
    process = psutil.Process(worker.process.pid)
    waves: list[Wave] = []
    with _server(runs) as address:
        shell = create_task(stack, "sleepers", "shell", f"exec sleep {seconds}", timeout_seconds=600)
        http = create_task(stack, "callers", "http", address, timeout_seconds=600)
        for kind, task in (("shell", shell), ("http", http), ("shell", shell), ("http", http)):
            waves.append(_wave(stack, process, kind, task, runs, (len(waves) + 1) * runs))
    assert states(stack) == {"succeeded": len(waves) * runs}
    assert stack.value("select max(attempt) from tasks_app_run") == 1
    return waves


def print_table(waves: list[Wave]) -> None:
    print(
        f"{'wave':12}{'runs':>7}{'started s':>11}{'before MiB':>12}{'RSS MiB':>9}{'CPU s':>8}{'threads':>9}{'files':>7}"
    )
    for wave in waves:
        print(
            f"{wave.kind:12}{wave.runs:>7}{wave.started_seconds:>11.1f}{wave.before_mib:>12.1f}{wave.rss_mib:>9.1f}"
            f"{wave.cpu_seconds:>8.1f}{wave.threads:>9}{wave.open_files:>7}"
        )


def _wave(stack: services.ProcessStack, process: psutil.Process, kind: str, task: int, runs: int, total: int) -> Wave:
    before, cpu = _mib(process), _cpu(process)
    trigger(stack, (task, runs))
    began = time.monotonic()
    running = "select count(*) from tasks_app_run where task_id = %s and state = 'running'"
    what = f"{runs} {kind} runs at the same time"
    stack.wait_for(what, lambda: stack.value(running, (task,)) == runs, LONGEST_SECONDS)
    started = time.monotonic() - began
    at_once = Wave(kind, runs, round(started, 1), before, _mib(process), 0.0, process.num_threads(), process.num_fds())
    stack.wait_for("their end", lambda: states(stack) == {"succeeded": total}, 3 * LONGEST_SECONDS)
    return Wave(**{**asdict(at_once), "cpu_seconds": round(_cpu(process) - cpu, 1)})


def _mib(process: psutil.Process) -> float:
    rss: int = process.memory_info().rss
    return round(rss / 2**20, 1)


def _cpu(process: psutil.Process) -> float:
    """Processor time of the worker alone; what its children used is theirs."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _server(runs: int) -> Iterator[str]:
    """An address that answers once so many ask at the same time."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    address: list[str] = []

    async def serve() -> None:
        waiting: list[asyncio.Future[None]] = []

        def let_go(everyone: list[asyncio.Future[None]]) -> None:
            for one in everyone:
                if not one.done():
                    one.set_result(None)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            mine = loop.create_future()
            waiting.append(mine)
            if len(waiting) >= runs:
                everyone, waiting[:] = list(waiting), []
                # A moment in which all of them can be looked at.
                loop.call_later(2.0, let_go, everyone)
            with suppress(TimeoutError):
                await asyncio.wait_for(mine, LONGEST_SECONDS)
            writer.write(ANSWER)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2 * runs)
        address.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        ready.set()
        await server.serve_forever()

    def body() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        thread.join(10)


if __name__ == "__main__":
    sys.exit(main())
