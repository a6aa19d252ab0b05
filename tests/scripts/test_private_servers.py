"""The servers that `make test` starts where none answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scripts import test_services
from scripts.private_servers import CannotStart, PrivateServers
from scripts.probes import POSTGRESQL, RABBITMQ, REDIS
from tests.environment import NOT_RUN

ROOT = Path(__file__).resolve().parents[2]


def installed(name: str) -> None:
    if not test_services.is_installed(name):
        pytest.skip(f"{NOT_RUN}the start of a private {name}, not installed")


@pytest.mark.processes
@pytest.mark.parametrize("server", [POSTGRESQL, RABBITMQ, REDIS], ids=lambda server: server.name)
def test_a_private_server_answers_and_leaves_nothing_behind(server, tmp_path):
    installed(server.name)
    servers = PrivateServers(tmp_path)
    start = {
        "PostgreSQL": servers.start_postgresql,
        "RabbitMQ": servers.start_rabbitmq,
        "Redis": servers.start_redis,
    }[server.name]
    before = set(psutil.Process().children(recursive=True))
    try:
        url = start(server.answers)
        assert url != server.standard_url
        assert server.answers(url)
        started = set(psutil.Process().children(recursive=True)) - before
        assert started
    finally:
        servers.stop()
    assert not server.answers(url)
    psutil.wait_procs(started, timeout=10)
    assert [process for process in started if process.is_running()] == []
    assert not servers.directory.exists()


def test_a_server_that_cannot_start_says_why_and_is_taken_away(tmp_path):
    installed("Redis")
    servers = PrivateServers(tmp_path)
    (servers.directory / "redis").mkdir()
    try:
        with pytest.raises((CannotStart, OSError), match="redis"):
            servers.start_redis(REDIS.answers)
    finally:
        servers.stop()
    assert not servers.directory.exists()


@pytest.mark.parametrize("code", [0, 3])
def test_the_command_runs_with_the_urls_and_its_exit_code_is_kept(code):
    command = f"import os, sys; print('seen', os.environ.get('TEST_CHROMIUM', '-')); sys.exit({code})"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.test_services", "--", sys.executable, "-c", command],
        cwd=ROOT,
        env={**os.environ, "TEST_CHROMIUM": sys.executable, POSTGRESQL.variable: POSTGRESQL.url()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert f"{POSTGRESQL.variable}={POSTGRESQL.url()}" in done.stdout.splitlines()
    assert f"seen {sys.executable}" in done.stdout


@pytest.fixture
def package_manager(tmp_path, monkeypatch):
    """An apt-get that writes down what it was asked for; gives the file."""
    asked = tmp_path / "asked"
    program = tmp_path / "apt-get"
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return asked


def test_missing_packages_are_installed_as_root(package_manager, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    test_services.install(["RabbitMQ", "Chromium"])
    update, install = package_manager.read_text().splitlines()
    assert update.split()[0] == "update"
    assert install.split()[0] == "install" and install.split()[-2:] == ["rabbitmq-server", "chromium"]


def test_nothing_is_installed_by_anybody_else_and_what_is_missing_is_named(package_manager, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    test_services.install(["Redis"])
    assert not package_manager.exists()
    assert "redis-server" in capsys.readouterr().err
