"""Callables that behave badly in every way we know, for the tests of warm hosts. Named in SCHEDULER_CALLABLES there."""

# ruff: noqa: T201  (what a callable prints is part of what is tested)

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks_app.callables import scheduler_callable


@scheduler_callable
def give(value: Any = None) -> Any:
    return value


@scheduler_callable
def variable(name: str) -> dict[str, str | None]:
    """What it finds in its environment; says so, too."""
    value = os.environ.get(name)
    print(value)
    digest = None if value is None else hashlib.sha256(value.encode()).hexdigest()
    return {"sha256": digest, "value": value}


class Refused(ValueError):
    """An error of a package's own."""


@scheduler_callable
def refuse() -> None:
    raise Refused


@scheduler_callable
def nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@scheduler_callable
def not_json() -> object:
    return object()


@scheduler_callable
def not_a_number() -> float:
    return float("nan")


@scheduler_callable
def speak(text: str, times: int = 1) -> None:
    for _ in range(times):
        print(text)
    print("to stderr", file=sys.stderr)


@scheduler_callable
def leave(code: int) -> None:
    sys.exit(code)


@scheduler_callable
def drop_dead(code: int, trace: str) -> None:
    with Path(trace).open("a") as file:
        file.write("x")
    os._exit(code)


@scheduler_callable
def pid() -> int:
    return os.getpid()


@scheduler_callable
def wait(begun: str, cleaned: str = "", seconds: float = 60) -> None:
    """Tell that it has begun, then sleep; tell when it is made to clean up."""
    Path(begun).touch()
    try:
        time.sleep(seconds)
    finally:
        if cleaned:
            Path(cleaned).touch()


@scheduler_callable
def stuck_in_c(begun: str) -> None:
    """It waits for itself and holds the lock of the interpreter: no signal handler of Python's runs."""
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(128)
    libc.pthread_mutex_lock(mutex)
    Path(begun).touch()
    libc.pthread_mutex_lock(mutex)


@scheduler_callable
def print_for_ever(begun: str) -> None:
    Path(begun).touch()
    while True:
        print("x" * 100)


@scheduler_callable
def start_child(begun: str) -> None:
    child = subprocess.Popen(["sleep", "60"])
    Path(begun).write_text(str(child.pid))
    time.sleep(60)


@scheduler_callable
def leave_behind() -> list[int]:
    """Returns with two processes alive: a child, and one that is nobody's child any more."""
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    script = "setsid env -i sleep 60 >/dev/null 2>&1 & echo $!"
    orphan = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True)
    return [child.pid, int(orphan.stdout)]


@scheduler_callable
def hold(mb: int) -> None:
    held = b"x" * (mb << 20)
    time.sleep(20)
    del held


@scheduler_callable
def spin() -> None:
    while True:
        pass


@scheduler_callable
def open_files(number: int) -> int:
    with contextlib.ExitStack() as files:
        for _ in range(number):
            files.enter_context(Path("/dev/null").open())
    return number
