"""The agent as a machine has it: one file, run by a bare interpreter, with nothing but the web port to reach."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest
from amqp.exceptions import NotFound
from kombu import Connection

from scripts.probes import RABBITMQ
from tests.services import Child, ProcessStack

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
FAST = {"SCHEDULER_HEARTBEAT_SECONDS": "1", "SCHEDULER_LEASE_SECONDS": "5", "SCHEDULER_AGENT_POLL_SECONDS": "0.2"}


def is_gone(group: int) -> bool:
    """Whether nothing of a process group lives; what a frozen parent has not reaped does not."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True


class Line(ThreadingHTTPServer):
    """A bad line to the web: it loses the answers to the first calls of each kind, and everything while `dead`."""

    LOST_OF_EACH = 2

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.web, self.dead = url, False
        self.lost: Counter[str] = Counter()
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()
        self.server_close()


class _Passing(BaseHTTPRequestHandler):
    server: Line

    def do_POST(self) -> None:
        line, kind = self.server, self.path.rsplit("/", 1)[-1]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if line.dead:
            return
        passed = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
        answer = httpx.post(f"{line.web}{self.path}", content=body, headers=passed, trust_env=False, timeout=20)
        # Something was written: an answer that says so is what must not be needed.
        wrote = kind in ("log", "finish", "heartbeat") or (kind == "claim" and answer.json().get("runs"))
        if wrote and line.lost[kind] < line.LOST_OF_EACH:
            line.lost[kind] += 1
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_arguments: object) -> None:
        """Nobody reads it."""


class Edge:
    """A stack with a dispatcher, the web and no worker, and agents beside it."""

    def __init__(self, stack: ProcessStack, folder: Path, environ: dict[str, str]) -> None:
        stack.environ |= FAST | environ
        stack.dispatcher()
        self.stack, self.api = stack, stack.web()
        self.file = folder / "agent.py"
        self.file.write_bytes(self.api.get("/api/agent/agent.py").content)
        self.scripts = folder / "edge-scripts"
        self.scripts.mkdir()
        made = self.api.post("/api/auth/worker-keys", json={"name": "edge", "pools": ["default"]}).json()
        self.key, self.key_id = made["key"], made["id"]
        self._agents = 0

    def agent(self, *options: str, url: str = "") -> Child:
        self._agents += 1
        log = self.stack.directory / f"agent{self._agents}.log"
        command = [sys.executable, "-I", "-S", str(self.file), "--url", url or str(self.api.base_url), *options]
        # None of the variables with which the other processes reach the database and the broker.
        child = Child(f"agent{self._agents}", command, {"SCHEDULER_WORKER_KEY": self.key, "LANG": "C.UTF-8"}, log)
        self.stack.children.append(child)
        self.stack._undo.callback(child.end_all)
        self.wait(f"{child.name} to be ready", lambda: "ready: worker" in log.read_text(), 20)
        return child

    def wait(self, what: str, is_so: Any, seconds: float = 30) -> Any:
        return self.stack.wait_for(what, is_so, seconds)

    def task(self, command: str, **fields: Any) -> int:
        body = {"name": f"task {time.monotonic()}", "executor": "shell", "command": command, "schedule": None} | fields
        answer = self.api.post("/api/tasks", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def start(self, task: int, **params: Any) -> str:
        """The path of a new run."""
        answer = self.api.post(f"/api/tasks/{task}/trigger", json={"params": params})
        assert answer.status_code == 201, answer.text
        return f"/api/runs/{answer.json()['id']}"

    def run(self, path: str) -> Any:
        return self.api.get(path).json()

    def ended(self, path: str, seconds: float = 30) -> Any:
        self.wait(f"{path} to end", lambda: self.run(path)["finished_at"], seconds)
        return self.run(path)

    def lines(self, path: str) -> list[str]:
        return [line["text"] for line in self.api.get(f"{path}/log").json()["lines"]]

    def first_line(self, path: str) -> str:
        self.wait(f"output of {path}", lambda: self.lines(path), 20)
        return self.lines(path)[0]

    def messages(self) -> int:
        """What lies in the queue of the pool."""
        with Connection(RABBITMQ.url(), connect_timeout=3) as connection:
            try:
                return int(
                    connection.channel().queue_declare(f"{self.stack.prefix}.default", passive=True).message_count
                )
            except NotFound:
                return 0

    def worker(self, **wanted: str) -> Any:
        return self.api.get("/api/workers", params=wanted).json()["results"]


@pytest.fixture
def edge(stack: ProcessStack, tmp_path: Path, request: pytest.FixtureRequest) -> Edge:
    return Edge(stack, tmp_path, getattr(request, "param", {}))


def test_an_agent_executes_streams_cancels_times_out_and_leaves(edge):
    (edge.scripts / "count.py").write_text("import json, sys\nprint(json.dumps({'n': len(sys.argv) - 1}))\n")
    agent = edge.agent("--slots", "4", "--label", "zone=edge", "--scripts", str(edge.scripts))
    (worker,) = edge.worker()
    assert (worker["state"], worker["slots"], worker["key"], worker["executors"]) == (
        "online", 4, "edge", ["python", "shell"],
    )  # fmt: skip

    # Executes, with its parameters, and the last line of JSON is the output.
    run = edge.ended(edge.start(edge.task('echo "hello $PARAM_name"; echo \'{"rows": 3}\''), name="edge"))
    assert (run["state"], run["output"], run["exit_code"], run["worker_name"]) == (
        "succeeded", {"rows": 3}, 0, worker["name"],
    )  # fmt: skip
    assert edge.lines(f"/api/runs/{run['id']}") == ["hello edge", '{"rows": 3}']
    script = edge.task("count.py a 'b c'", executor="python")
    assert edge.ended(edge.start(script))["output"] == {"n": 2}
    missing = edge.ended(edge.start(edge.task("nothing.py", executor="python")))
    assert (missing["state"], missing["reason"]) == ("failed", "script_missing")
    failed = edge.ended(edge.start(edge.task("exit 3")))
    assert (failed["state"], failed["exit_code"]) == ("failed", 3)

    # Its key is nothing that a run gets to see.
    variables = edge.ended(edge.start(edge.task("env | sort")))
    assert not any("dts_worker" in line for line in edge.lines(f"/api/runs/{variables['id']}"))

    # Labels are respected: what asks for another zone waits.
    elsewhere = edge.start(edge.task("true", required_labels="zone = core"))
    here = edge.ended(edge.start(edge.task("true", required_labels="zone = edge")))
    assert here["state"] == "succeeded" and edge.run(elsewhere)["state"] == "waiting"

    # Streams.
    path = edge.start(edge.task("echo begun; date +%s.%N; sleep 60 & wait"))
    edge.wait("the second line", lambda: len(edge.lines(path)) >= 2, 20)
    streamed = edge.start(edge.task("sleep 1; date +%s.%N; sleep 60"))
    written = float(edge.first_line(streamed))
    assert time.time() - written < 1.0, "output is there within a second"
    assert edge.run(streamed)["state"] == "running"

    # Cancel, kill, time limit.
    edge.api.post(f"{path}/cancel")
    edge.api.post(f"{streamed}/terminate")
    assert edge.ended(path)["state"] == "cancelled"
    assert edge.ended(streamed)["state"] == "cancelled"
    assert "Ending the process group: cancel." in edge.lines(path)
    assert edge.ended(edge.start(edge.task("sleep 60", timeout_seconds=1)))["state"] == "timed_out"

    # More output than is kept: head and tail, with a mark between.
    flood = edge.ended(edge.start(edge.task("echo first; seq 1 400000; echo last")), 60)
    log = edge.api.get(f"/api/runs/{flood['id']}/log").json()
    assert log["truncated"] and log["lines"][0]["text"] == "first"
    end = edge.stack.value(
        "select lines->-1->>2 from tasks_app_runoutput where run_id = %s order by first_line desc limit 1",
        [flood["id"]],
    )
    assert end == "last"

    # Leaves: what runs may end, nothing new is begun.
    last = edge.start(edge.task("sleep 1; echo done"))
    edge.wait("the last run to start", lambda: edge.run(last)["state"] == "running", 20)
    assert agent.stop() == 0
    assert edge.run(last)["state"] == "succeeded"
    assert [worker["state"] for worker in edge.worker()] == ["offline"]
    # Nothing was announced that nobody would ever hear.
    assert edge.messages() == 0


def test_an_agent_that_is_killed_takes_its_processes_along_and_its_runs_are_rescued(edge):
    doomed = edge.agent("--slots", "2")
    again = edge.start(edge.task("echo $$; sleep 300 & wait", retry_on_lost=True))
    lost = edge.start(edge.task("echo $$; setsid sleep 300 & wait"))
    groups = [int(edge.first_line(path)) for path in (again, lost)]
    killed_at = time.monotonic()
    doomed.kill()
    edge.wait("the guardian to end the runs", lambda: all(is_gone(group) for group in groups), 10)
    assert edge.ended(lost)["reason"] == "worker_lost"
    assert time.monotonic() - killed_at < 20
    heir = edge.agent("--slots", "2")
    edge.wait("the next attempt", lambda: edge.run(again)["attempt"] == 2 and edge.run(again)["state"] == "running", 30)
    edge.api.post(f"{again}/terminate")
    assert edge.ended(again)["state"] == "cancelled"
    assert heir.stop() == 0


def test_a_frozen_agent_loses_its_runs_and_becomes_another_worker_when_it_wakes_up(edge):
    agent = edge.agent()
    path = edge.start(edge.task("echo $$; sleep 300 & wait"))
    group = int(edge.first_line(path))
    agent.freeze()
    edge.wait("the guardian to end the run", lambda: is_gone(group), 10)
    assert edge.run(path)["state"] == "running", "ended before anybody else could begin it again"
    assert edge.ended(path)["state"] == "lost"
    agent.thaw()
    edge.wait("the new worker", lambda: {w["state"] for w in edge.worker()} == {"online", "lost"}, 20)
    assert edge.ended(edge.start(edge.task("true")))["state"] == "succeeded"


def test_a_revoked_key_stops_its_agent_at_once_and_no_other(edge):
    agent = edge.agent()
    path = edge.start(edge.task("echo $$; sleep 300 & wait"))
    group = int(edge.first_line(path))
    assert edge.api.delete(f"/api/auth/worker-keys/{edge.key_id}").status_code == 204
    assert agent.process.wait(10) == 2
    assert is_gone(group)
    assert edge.ended(path)["state"] == "lost"


@pytest.mark.parametrize("edge", [{"SCHEDULER_LEASE_SECONDS": "20"}], indirect=True)
def test_over_a_line_that_loses_answers_and_goes_away_each_run_is_executed_once_with_all_its_lines(edge, tmp_path):
    done = tmp_path / "done"
    task = edge.task(f"for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 0.2; done; echo $SCHEDULER_RUN_ID >> {done}")
    with Line(str(edge.api.base_url)) as line:
        agent = edge.agent("--slots", "3", url=line.url)
        paths = [edge.start(task) for _ in range(6)]
        for path in paths[:3]:
            edge.ended(path)
        assert line.lost == {"claim": 2, "log": 2, "finish": 2, "heartbeat": 2}
        # Away for less than the lease.
        line.dead = True
        time.sleep(2)
        line.dead = False
        for path in paths:
            run = edge.ended(path)
            assert (run["state"], run["attempt"]) == ("succeeded", 1)
            assert edge.lines(path) == [f"line {n}" for n in range(1, 9)]
        assert Counter(done.read_text().split()) == {path.rsplit("/", 1)[-1]: 1 for path in paths}
        assert [worker["state"] for worker in edge.worker()] == ["online"]
        assert agent.stop() == 0
