"""The supervisor of run_all: starts again what ends, and ends all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console_app import supervisor as module
from console_app.supervisor import Child, Supervisor, port_is_free
from tests.workers_app.jobs import is_alive, wait_until


@pytest.fixture
def supervise(monkeypatch) -> Iterator[Callable[..., tuple[Supervisor, threading.Thread, list[int]]]]:
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.05)
    monkeypatch.setenv("SCHEDULER_DRAIN_SECONDS", "0.1")
    # PDEATHSIG is tied to the thread that forked; here the supervisor runs on one that ends.
    monkeypatch.setattr(module, "_die_with_parent", lambda: None)
    started: list[tuple[Supervisor, threading.Thread]] = []

    def start(*children: Child) -> tuple[Supervisor, threading.Thread, list[int]]:
        codes: list[int] = []
        one = Supervisor(children)
        one.start()
        thread = threading.Thread(target=lambda: codes.append(one.run()))
        thread.start()
        started.append((one, thread))
        return one, thread, codes

    yield start
    for one, thread in started:
        one.stop()
        thread.join(30)


def sleeper(name: str = "part") -> Child:
    return Child(name, ["sleep", "60"])


def pid_of(child: Child) -> int:
    return child.process.pid if child.process is not None else 0


def test_a_part_that_is_killed_is_started_again_and_the_others_are_left_alone(supervise):
    killed, other = sleeper("killed"), sleeper("other")
    supervise(killed, other)
    first, untouched = pid_of(killed), pid_of(other)
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: pid_of(killed) not in (0, first))
    assert is_alive(pid_of(killed)) and pid_of(other) == untouched and other.restarts == 0


def test_a_part_that_never_stays_is_given_up_and_everything_ends_with_an_error(supervise, monkeypatch):
    monkeypatch.setattr(module, "MOST_RESTARTS", 2)
    other = sleeper("other")
    _one, thread, codes = supervise(Child("broken", ["false"]), other)
    pid = pid_of(other)
    thread.join(30)
    assert codes == [1]
    assert not is_alive(pid)


def test_to_stop_ends_every_part_also_one_that_does_not_listen(supervise, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    deaf = Child("deaf", ["sh", "-c", f"trap '' TERM; touch {tmp_path}/deaf; while :; do sleep 0.1; done"])
    one, thread, codes = supervise(sleeper(), deaf)
    assert wait_until((tmp_path / "deaf").exists)
    pid = pid_of(deaf)
    one.stop()
    thread.join(30)
    assert codes == [0] and not is_alive(pid)


def test_waiting_for_a_condition_ends_with_it_or_in_vain(supervise):
    one = Supervisor([])
    assert one.wait_until(lambda: True, 5)
    assert not one.wait_until(lambda: False, 0.2)
    one.stop()
    assert not one.wait_until(lambda: True, 5)


def test_a_port_that_is_taken_is_not_free():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


PARENT = """
import sys, time
from console_app.supervisor import Child, Supervisor
child = Child("part", ["sleep", "60"])
one = Supervisor([child])
one.start()
print(child.process.pid, flush=True)
one.run()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_kill_9_of_the_supervisor_ends_its_parts():
    root = Path(module.__file__).parent.parent
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.communicate()
    assert wait_until(lambda: not is_alive(pid))
