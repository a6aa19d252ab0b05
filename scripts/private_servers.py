"""Starts a PostgreSQL, RabbitMQ or Redis of our own from installed binaries, and ends it without a trace."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

START_SECONDS = 90
STOP_SECONDS = 30


class CannotStart(Exception):
    """A server of our own could not be started; the message says why."""


class PrivateServers:
    """Servers that live as long as this object: `start_*` gives the URL, `stop` ends them and removes their files."""

    def __init__(self, parent: Path) -> None:
        self._account = _unprivileged_account()
        self.directory = _private_directory(parent, self._account)
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._postgresql: tuple[Sequence[str], str] = ((), "")

    def start_postgresql(self, answers: Callable[[str], bool], **settings: str) -> str:
        """Make a cluster with trust for loopback and serve it, with these settings; raises CannotStart."""
        binaries = _postgresql_binaries()
        data, port = self.directory / "postgresql", free_port()
        self._run(str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            # A socket below the data directory would break on a path over 107 bytes; tests use TCP.
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "200",
        }
        given = [part for name, value in (options | settings).items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data), *given]
        self._postgresql = command, f"postgres://postgres@127.0.0.1:{port}/postgres"
        self._start("postgresql", command)
        return self._await("postgresql", self._postgresql[1], answers)

    def crash_postgresql(self, answers: Callable[[str], bool]) -> None:
        """Restart it as `pg_ctl restart -m immediate` does: every session ends where it stands, and what had not
        committed is gone. Raises CannotStart."""
        command, url = self._postgresql
        place = next(place for place, (name, _process) in enumerate(self._processes) if name == "postgresql")
        _name, process = self._processes.pop(place)
        process.send_signal(signal.SIGQUIT)
        process.wait(STOP_SECONDS)
        self._start("postgresql", command)
        self._await("postgresql", url, answers)

    def start_rabbitmq(self, answers: Callable[[str], bool]) -> str:
        """Serve an empty broker with a node name, cookie and port mapper of its own; raises CannotStart."""
        # Debian's wrapper on the PATH insists on the account rabbitmq and its files; the script behind it does not.
        script = _first_existing("/usr/lib/rabbitmq/bin/rabbitmq-server") or shutil.which("rabbitmq-server")
        mapper = shutil.which("epmd")
        if script is None or mapper is None:
            raise CannotStart("rabbitmq-server is not installed")
        home = self._folder("rabbitmq")
        port, mapper_port, distribution_port = free_port(), free_port(), free_port()
        (home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\ndisk_free_limit.absolute = 10MB\n")
        (home / "enabled_plugins").write_text("[].\n")
        environment = {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"private-{os.getpid()}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
        }
        self._start("rabbitmq-mapper", [mapper, "-port", str(mapper_port), "-address", "127.0.0.1"])
        self._start("rabbitmq", [script], environment)
        return self._await("rabbitmq", f"amqp://guest:guest@127.0.0.1:{port}//", answers)

    def start_redis(self, answers: Callable[[str], bool]) -> str:
        """Serve an empty store that keeps nothing; raises CannotStart."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise CannotStart("redis-server is not installed")
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._start("redis", [binary, *options, "--dir", str(self._folder("redis"))])
        return self._await("redis", f"redis://127.0.0.1:{port}/", answers)

    def stop(self) -> None:
        """End every server, the last started first, and remove their files. Safe to call twice."""
        while self._processes:
            _end(*self._processes.pop())
        shutil.rmtree(self.directory, ignore_errors=True)

    def _folder(self, name: str) -> Path:
        folder = self.directory / name
        folder.mkdir()
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        return folder

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.directory, check=False, **_identity(self._account)
        )
        if done.returncode:
            raise CannotStart(f"{Path(command[0]).name} failed: {done.stderr.strip()[-500:]}")

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                **_identity(self._account),
            )
        self._processes.append((name, process))

    def _await(self, name: str, url: str, answers: Callable[[str], bool]) -> str:
        process = self._processes[-1][1]
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            if answers(url):
                return url
            time.sleep(0.2)
        log = (self.directory / f"{name}.log").read_text(errors="replace").strip()[-800:]
        raise CannotStart(f"{name} did not answer within {START_SECONDS} s: {log}")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged_account() -> pwd.struct_passwd | None:
    """The account that servers run as where we are root (PostgreSQL refuses root), else None: they run as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotStart("running as root, and neither of the accounts postgres and nobody exists")


def _private_directory(parent: Path, account: pwd.struct_passwd | None) -> Path:
    """A fresh directory below `parent`, or below the system's temporary one where `account` cannot reach `parent`."""
    parent.mkdir(parents=True, exist_ok=True)
    if account is None:
        return Path(tempfile.mkdtemp(prefix="servers-", dir=parent))
    reachable = subprocess.run(["test", "-x", str(parent)], check=False, **_identity(account)).returncode == 0
    directory = Path(tempfile.mkdtemp(prefix="servers-", dir=parent if reachable else None))
    os.chown(directory, account.pw_uid, account.pw_gid)
    return directory


class _Identity(TypedDict, total=False):
    user: int
    group: int


def _identity(account: pwd.struct_passwd | None) -> _Identity:
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid}


def _postgresql_binaries() -> Path:
    """The directory of the newest installed server; Debian keeps it off the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    initdb = shutil.which("initdb")
    if initdb is None:
        raise CannotStart("the PostgreSQL server (initdb) is not installed")
    return Path(initdb).resolve().parent


def _first_existing(*paths: str) -> str | None:
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _end(name: str, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every connection to close.
    process.send_signal(signal.SIGINT if name == "postgresql" else signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
