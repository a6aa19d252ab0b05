"""Runs a command with PostgreSQL, RabbitMQ, Redis and Chromium within reach: `python -m scripts.test_services -- CMD`.

A server that answers at its TEST_*_URL (or on its standard local port) is used as it is. Otherwise a private one is
started from installed binaries and ended with the command; where this runs as root on Debian, missing packages are
installed first. TEST_PRIVATE_SERVERS=1 starts private ones although others answer. What cannot be had is left to the
test run, which names it at its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from scripts.private_servers import CannotStart, PrivateServers
from scripts.probes import POSTGRESQL, RABBITMQ, REDIS, SERVERS, Server, find_chromium

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "PostgreSQL": "postgresql",
    "RabbitMQ": "rabbitmq-server",
    "Redis": "redis-server",
    "Chromium": "chromium",
    "gettext": "gettext",
}


def main(command: list[str]) -> int:
    """Run the command with the servers' URLs in its environment and give back its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Taken out, so that the command does not start yet others beside the ones that it is given.
    forced = os.environ.pop("TEST_PRIVATE_SERVERS", "") == "1"
    missing = [server for server in SERVERS if forced or not server.answers(server.url())]
    install([name for name in PACKAGES if not is_installed(name) and _is_wanted(name, missing)])
    # Debian's packages start their servers where an init system lets them.
    missing = [server for server in missing if forced or not server.answers(server.url())]
    private: PrivateServers | None = None
    try:
        if missing:
            private = PrivateServers(ROOT / "var")
            for server in missing:
                _start(private, server)
        _print_assignments()
        return _run(command)
    except KeyboardInterrupt:
        return 130
    finally:
        if private is not None:
            private.stop()


def is_installed(name: str) -> bool:
    """Whether the binaries of the named part are on this machine."""
    if name == "Chromium":
        return find_chromium() is not None
    if name == "PostgreSQL":
        return bool(list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))) or shutil.which("initdb") is not None
    binary = {"RabbitMQ": "rabbitmq-server", "Redis": "redis-server", "gettext": "msgfmt"}[name]
    return shutil.which(binary) is not None or Path("/usr/sbin", binary).exists()


def install(names: list[str]) -> None:
    """Install the Debian packages of the named parts where we may; elsewhere (or when it fails) say so and go on."""
    if not names:
        return
    packages = [PACKAGES[name] for name in names]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _say(f"not installed, and not ours to install: {', '.join(packages)}")
        return
    _say(f"installing {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            _say(f"apt-get {arguments[0]} failed with exit code {done.returncode}")


def _run(command: list[str]) -> int:
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The command ends what it started itself; its servers go only after it.
        process.terminate()
        process.wait(60)
        raise


def _is_wanted(name: str, missing: list[Server]) -> bool:
    return name in ("Chromium", "gettext") or any(server.name == name for server in missing)


def _start(private: PrivateServers, server: Server) -> None:
    starters: dict[str, Callable[[Callable[[str], bool]], str]] = {
        POSTGRESQL.name: private.start_postgresql,
        RABBITMQ.name: private.start_rabbitmq,
        REDIS.name: private.start_redis,
    }
    if os.environ.get(server.variable):
        _say(f"{server.name} does not answer at {server.variable}; starting a private one")
    try:
        os.environ[server.variable] = starters[server.name](server.answers)
    except (CannotStart, OSError) as error:
        _say(f"no {server.name}: {error}")


def _print_assignments() -> None:
    for server in SERVERS:
        print(f"{server.variable}={server.url()}")
    chromium = find_chromium()
    if chromium is not None:
        os.environ["TEST_CHROMIUM"] = chromium
        print(f"TEST_CHROMIUM={chromium}")
    sys.stdout.flush()


def _say(text: str) -> None:
    print(f"test services: {text}", file=sys.stderr, flush=True)


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(arguments[1:] if arguments[:1] == ["--"] else arguments))
