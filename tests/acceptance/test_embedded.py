"""`manage.py run_all` as a newcomer starts it: SQLite, no broker, one command; the same chain of work as on servers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from scripts.private_servers import free_port
from tests.services import Child, manage, stack_environment
from tests.workers_app.jobs import wait_until

pytestmark = pytest.mark.processes


class Embedded:
    """A running installation; `api` has the key that run_all made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._url = f"http://127.0.0.1:{free_port()}"
        self._environ = stack_environment("unused", directory) | {
            "DATABASE_URL": f"sqlite:///{directory}/scheduler.sqlite3",
            "CELERY_BROKER_URL": "",
            "SCHEDULER_ADMIN_PASSWORD": "correct horse battery staple",
            "PORT": self._url.rpartition(":")[2],
        }
        self.child = Child("run_all", [sys.executable, "manage.py", "run_all"], self._environ, directory / "log")

    def start(self) -> None:
        self.child.wait_ready()
        key_file = self.directory / "api_key"
        assert wait_until(lambda: key_file.exists() and self._is_live(), 60), self.child.tail()
        headers = {"X-API-Key": key_file.read_text()}
        self.api = httpx.Client(base_url=self._url, headers=headers, timeout=30, trust_env=False)

    def close(self) -> None:
        self.api.close()
        self.child.end_all()

    def manage(self, *arguments: str) -> str:
        return manage(self._environ, *arguments)

    def task(self, name: str) -> int:
        (found,) = [task for task in self.api.get("/api/tasks").json()["results"] if task["name"] == name]
        return int(found["id"])

    def create(self, **fields: Any) -> int:
        made = self.api.post("/api/tasks", json={"schedule": None, **fields})
        assert made.status_code == 201, made.text
        return int(made.json()["id"])

    def trigger(self, task: int) -> int:
        made = self.api.post(f"/api/tasks/{task}/trigger", json={})
        assert made.status_code == 201, made.text
        return int(made.json()["id"])

    def run(self, id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/api/runs/{id}").json()
        return found

    def latest(self, task: int) -> dict[str, Any]:
        """The newest run of the task; empty when it has none."""
        results: list[dict[str, Any]] = self.api.get(f"/api/runs?task={task}").json()["results"]
        return max(results, key=lambda run: int(run["id"]), default={})

    def lines(self, id: int) -> list[str]:
        return [line["text"] for line in self.api.get(f"/api/runs/{id}/log").json()["lines"]]

    def _is_live(self) -> bool:
        try:
            return httpx.get(f"{self._url}/health/live", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path)
    made.api = httpx.Client()
    try:
        made.start()
        yield made
    finally:
        made.close()


def names_under(process: psutil.Process) -> set[str]:
    names = set()
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            names.add(child.name())
    return names


def test_extract_transform_and_report_run_one_after_the_other_to_a_report_on_disk(installation):
    installation.manage("load_demo")
    tasks = [installation.task(name) for name in ("extract", "transform", "report")]
    # Else the turn of a minute could begin a second chain beside ours.
    assert installation.api.patch(f"/api/tasks/{tasks[0]}", json={"schedule": None}).status_code == httpx.codes.OK
    installation.trigger(tasks[0])
    chain = [installation.latest(task) for task in tasks]
    last = int(chain[-1]["id"])
    assert wait_until(lambda: installation.run(last)["state"] == "succeeded", 60), installation.child.tail()
    extract, transform, report = [installation.run(int(run["id"])) for run in chain]
    assert {run["state"] for run in (extract, transform, report)} == {"succeeded"}
    assert extract["finished_at"] <= transform["started_at"] and transform["finished_at"] <= report["started_at"]
    assert transform["output"]["changes"] == 20
    written = Path(report["output"]["report"])
    assert written.is_relative_to(installation.directory) and written.read_text().startswith("#")
    assert installation.lines(last)


def test_a_killed_engine_comes_back_by_itself_and_a_stop_leaves_no_process(installation, tmp_path):
    sleeper = installation.create(name="sleeper", executor="shell", command="exec sleep 300")
    noop = installation.create(name="noop", executor="callable", command="workers_app.samples.noop")
    lost = installation.trigger(sleeper)
    assert wait_until(lambda: installation.run(lost)["state"] == "running", 30)
    whole = psutil.Process(installation.child.process.pid)
    (engine,) = [child for child in whole.children() if "run_worker" in child.cmdline()]
    assert wait_until(lambda: "sleep" in names_under(engine), 30), "the run has started its process"
    under_it = engine.children(recursive=True)
    os.kill(engine.pid, signal.SIGKILL)
    run = installation.trigger(noop)
    assert wait_until(lambda: installation.run(run)["state"] == "succeeded", 30), installation.child.tail()
    assert wait_until(lambda: installation.run(lost)["state"] == "lost", 30)
    assert psutil.wait_procs(under_it, timeout=10)[1] == []
    all_of_it = whole.children(recursive=True)
    assert installation.child.stop(40) == 0
    assert psutil.wait_procs(all_of_it, timeout=10)[1] == []
