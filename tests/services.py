"""Real dispatcher, worker and web processes of this scheduler, on a throw-away PostgreSQL database and RabbitMQ queues.

def test_a_run_survives_its_worker(process_stack):
    process_stack.dispatcher()
    worker = process_stack.worker(concurrency=4)
    ...
    worker.kill()
    process_stack.wait_for("the run to be lost", lambda: process_stack.value("select state ...") == "lost", 30)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from amqp.exceptions import AMQPError
from kombu import Connection

from scripts.private_servers import free_port
from scripts.probes import RABBITMQ, libpq_url
from tests import environment

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60
STOP_SECONDS = 20
ADMIN_PASSWORD = "correct horse battery staple"
_numbers = count(1)


class Child:
    """One process of the stack, leader of its own session; its log is a file of JSON lines."""

    def __init__(self, name: str, command: Sequence[str], environ: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._started_by_it: set[psutil.Process] = set()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        """The logged events of this name so far, in order."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and record.get("event") == name:
                    found.append(record)
        return found

    def wait_ready(self) -> None:
        """Wait for the line `ready`; raises AssertionError with the end of the log when it does not come."""
        self.wait_for_event("ready", READY_SECONDS)

    def wait_for_event(self, name: str, seconds: float) -> dict[str, Any]:
        """Wait for a logged event and give it back; raises AssertionError with the end of the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.events(name):
                return found[0]
            if self.process.poll() is not None:
                raise AssertionError(
                    f"{self.name} ended with {self.process.returncode} before {name!r}:\n{self.tail()}"
                )
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not log {name!r} within {seconds} s:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def kill(self) -> None:
        """kill -9 of this one process; what it started lives on, as it would in production."""
        self._remember_descendants()
        self.process.kill()
        self.process.wait()

    def end_all(self) -> None:
        """kill -9 of the process and of all that it started: runs have sessions of their own and outlive a worker."""
        self.kill()
        for process in self._started_by_it:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _remember_descendants(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self._started_by_it.update(psutil.Process(self.process.pid).children(recursive=True))

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL when that is not heard in time. Returns the exit code."""
        if self.process.poll() is None:
            self._remember_descendants()
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode


class ProcessStack:
    """An installation of its own: database, queues, data directory and the processes started on them."""

    def __init__(self, directory: Path, template: str) -> None:
        number = next(_numbers)
        # The number of this process in the name lets a later run drop what a killed one has left.
        self.database = f"test_scheduler_{os.getpid()}_stack{number}"
        self.prefix = f"test-{os.getpid()}-{number}"
        self.directory = directory
        self.children: list[Child] = []
        with ExitStack() as undo:
            environment.administer(f'CREATE DATABASE "{self.database}" TEMPLATE "{template}"')
            undo.callback(environment.administer, f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
            self._connection = psycopg.connect(libpq_url(environment.database_url(self.database)), autocommit=True)
            undo.callback(lambda: self._connection.close())  # noqa: PLW0108  (the one that it is then)
            undo.callback(self._delete_queues)
            self._undo = undo.pop_all()
        self.environ = stack_environment(self.database, directory) | {
            "CELERY_BROKER_URL": RABBITMQ.url(),
            "SCHEDULER_QUEUE_PREFIX": self.prefix,
        }

    def dispatcher(self, *arguments: str, **environ: str) -> Child:
        """Start a dispatcher and wait until it serves."""
        return self._manage("dispatcher", "run_dispatcher", *arguments, **environ)

    def worker(self, *arguments: str, pool: str = "default", concurrency: int = 4, **environ: str) -> Child:
        """Start a worker and wait until it serves."""
        options = ("--pool", pool, "--concurrency", str(concurrency))
        return self._manage("worker", "run_worker", *options, *arguments, **environ)

    def web(self) -> httpx.Client:
        """Start the web process; a client of it that has an administrator's API key. Closed with the stack."""
        port = free_port()
        server = [sys.executable, "-m", "gunicorn", "--config", "python:scheduler_site.gunicorn"]
        child = self.start("web", [*server, "--bind", f"127.0.0.1:{port}", "scheduler_site.wsgi"], {})
        key = self.run("create_api_key", "--user", "admin", "--name", f"web {port}", "--role", "admin").strip()
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=30, trust_env=False
        )
        self._undo.callback(client.close)
        self.wait_for(f"an answer of {child.name}", lambda: _is_live(client), READY_SECONDS)
        return client

    def run(self, *arguments: str) -> str:
        """Run a manage.py command on the stack, as `manage` does."""
        return manage(self.environ, *arguments)

    def reconnect(self) -> None:
        """Have a new connection for `rows`, where the test has ended the old one."""
        self._connection.close()
        self._connection = psycopg.connect(libpq_url(environment.database_url(self.database)), autocommit=True)

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement on the stack's database, committed at once."""
        cursor = self._connection.execute(sql.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The single value of a statement on the stack's database."""
        return self.rows(sql, parameters)[0][0]

    def wait_for(self, what: str, is_so: Callable[[], Any], seconds: float) -> Any:
        """Ask again until the answer is true and give it back; raises AssertionError with every log's end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := is_so():
                return answer
            time.sleep(0.05)
        raise AssertionError(f"Waited {seconds} s in vain for {what}.\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(f"--- {child.name} ({child.log})\n{child.tail()}" for child in self.children)

    def close(self) -> None:
        """End every process, what they started and left, the queues and the database; each, whatever fails before."""
        self._undo.close()

    def _manage(self, name: str, *arguments: str, **environ: str) -> Child:
        child = self.start(name, [sys.executable, "manage.py", *arguments], environ)
        child.wait_ready()
        return child

    def start(self, name: str, command: Sequence[str], environ: dict[str, str]) -> Child:
        """Start a process of the stack's environment; it ends with the stack."""
        label = f"{name}{1 + sum(child.name.startswith(name) for child in self.children)}"
        child = Child(label, command, self.environ | environ, self.directory / f"{label}.log")
        self.children.append(child)
        self._undo.callback(child.end_all)
        return child

    def _delete_queues(self) -> None:
        pools = [name for (name,) in self.rows("select name from tasks_app_pool")]
        workers = [str(key) for (key,) in self.rows("select id from workers_app_worker")]
        with suppress(OSError, AMQPError), Connection(RABBITMQ.url(), connect_timeout=3) as connection:
            for name in {"default", "peer", *pools, *workers}:
                channel = connection.channel()
                channel.queue_delete(f"{self.prefix}.{name}")
                channel.close()


def stack_environment(database: str, directory: Path) -> dict[str, str]:
    """The environment of a stack's processes: that of the test run, less what is the test run's own."""
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith((*environment.OURS, "TEST_", "DJANGO_", "PYTEST_"))
    }
    return inherited | {
        "DJANGO_SETTINGS_MODULE": "scheduler_site.settings",
        "DATABASE_URL": environment.database_url(database),
        "SCHEDULER_DATA_DIR": str(directory),
        "SCHEDULER_SECRET_KEY": os.environ["SCHEDULER_SECRET_KEY"],
        "SCHEDULER_LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
    }


def create_template(name: str, directory: Path) -> None:
    """A migrated database with the superuser `admin`, for stacks to copy in a fraction of a second."""
    environment.administer(f'CREATE DATABASE "{name}"')
    environ = stack_environment(name, directory) | {"DJANGO_SUPERUSER_PASSWORD": ADMIN_PASSWORD}
    manage(environ, "migrate", "--verbosity", "0")
    manage(environ, "createsuperuser", "--noinput", "--username", "admin", "--email", "admin@scheduler.example")


def manage(environ: dict[str, str], *arguments: str) -> str:
    """Run a manage.py command to its end and give back its standard output; raises AssertionError when it fails."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _is_live(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
