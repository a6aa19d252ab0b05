"""Named points at which a process is crashed or frozen: before or after a call of the product, at each boundary where
something has been done and something has not.

Nothing of this is in the product. `faulty.py`, the entry of such a process, puts a wrapper round the one function of
the point. It acts once, when its call matters: when runs went through it.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

POINT, ACTION = "CHAOS_POINT", "CHAOS_ACTION"
CRASHED = 99


class Action(StrEnum):
    CRASH = "crash"
    FREEZE = "freeze"


class Cost(StrEnum):
    """What the crash may cost the run that goes through the point."""

    NOTHING = "nothing"  # executed once, at its first attempt
    ATTEMPT = "attempt"  # given up as lost, and tried again where its task allows that


@dataclass(frozen=True, slots=True)
class Point:
    """`target` is module:function or module:Class.method, looked up where the caller looks it up. `matters` is asked
    with the arguments, the result too where the point lies after the call."""

    name: str
    process: str
    target: str
    after: bool
    matters: Callable[..., Any]
    cost: Cost = Cost.NOTHING
    with_a_dead_worker: bool = False


def _given(first: Any, *_arguments: Any, **_options: Any) -> bool:
    return bool(first)


def _always(*_arguments: Any, **_options: Any) -> bool:
    return True


def _result(*arguments: Any, **_options: Any) -> bool:
    return bool(arguments[-1])


def _ended(*arguments: Any, **_options: Any) -> bool:
    return any(arguments[-1])


POINTS = {
    point.name: point
    for point in (
        # A dispatcher, from the instant to the message.
        Point(
            "fire inserted",
            "dispatcher",
            "dispatcher_app.firing:plan_runs",
            True,
            lambda *a, **_o: any(id is not None for id in a[-1].run_ids),
        ),
        Point("fire committed", "dispatcher", "dispatcher_app.loop:fire_due", True, lambda *a, **_o: a[-1].runs > 0),
        Point("upstream told", "dispatcher", "dispatcher_app.acceptance:_make_ready", True, _always),
        Point("release written", "dispatcher", "dispatcher_app.release:describe", True, _given),
        Point("before publish", "dispatcher", "dispatcher_app.loop:packed", False, _given),
        Point("after publish", "dispatcher", "workers_app.doorbell:Publisher.publish", True, _result),
        Point(
            "rescue written",
            "dispatcher",
            "tasks_app.transitions:recover",
            True,
            _result,
            Cost.ATTEMPT,
            with_a_dead_worker=True,
        ),
        # A worker, from the message to the end that is written down.
        Point("before claim", "worker", "tasks_app.transitions:claim", False, _given),
        Point("claim written", "worker", "tasks_app.transitions:claim", True, _result),
        Point(
            "after claim",
            "worker",
            "workers_app.execution:Execution._claim",
            True,
            lambda *a, **_o: any(claimed for claimed, _rest in a[-1]),
            Cost.ATTEMPT,
        ),
        Point("mid-output", "worker", "workers_app.finishing:store", True, _given, Cost.ATTEMPT),
        Point("after execute", "worker", "workers_app.execution:Execution._execute_one", True, _always, Cost.ATTEMPT),
        Point("end written", "worker", "tasks_app.transitions:finish", True, _result, Cost.ATTEMPT),
        Point("end committed", "worker", "workers_app.finishing:Results._finish", True, _ended, Cost.ATTEMPT),
        Point("before the first beat", "worker", "workers_app.lifecycle:Node.beat", False, _always, Cost.ATTEMPT),
    )
}


def install(name: str, action: str) -> None:
    """Put the wrapper of the point round its function. Call it when Django is ready."""
    point = POINTS[name]
    module, _, path = point.target.partition(":")
    *owners, last = path.split(".")
    owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, last, _wrapped(getattr(owner, last), point, Action(action)))


def _wrapped(function: Callable[..., Any], point: Point, action: Action) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if not point.after and point.matters(*arguments, **options):
            _act(action)
        result = function(*arguments, **options)
        if point.after and point.matters(*arguments, result, **options):
            _act(action)
        return result

    return wrapper


_acted = False


def _act(action: Action) -> None:
    global _acted  # noqa: PLW0603  (a frozen process that goes on must not freeze again)
    if _acted:
        return
    _acted = True
    if action is Action.CRASH:
        os._exit(CRASHED)
    # To this thread: sent to the process it would be for whichever thread gets to it, while this one goes on.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
