"""Faults to plant: a line of the product changed, as somebody could have written it."""

from __future__ import annotations
import __future__

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from dispatcher_app import acceptance, firing, limits, loop, rescue
from tasks_app import ending, ledger, transitions
from tasks_app.services import runs

_LIVE, _RUNNING = "state__in=sorted(LIVE)", 'state="running"'


@dataclass(frozen=True, slots=True)
class Fault:
    """`old` becomes `new` in the source of a function of the module; `seen_in` are the modules that use it by name.

    `rare` ones take a minute to be found, which only the long form has.
    """

    name: str
    module: ModuleType
    function: str
    old: str
    new: str
    seen_in: tuple[ModuleType, ...] = ()
    rare: bool = False

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Raises AssertionError where the line is no longer there: then the fault has to be written anew."""
        source = inspect.getsource(getattr(self.module, self.function))
        assert source.count(self.old) >= 1, f"{self.module.__name__}.{self.function} has no {self.old!r}"
        scope: dict[str, Any] = {}
        flags = __future__.annotations.compiler_flag
        exec(compile(source.replace(self.old, self.new), self.module.__name__, "exec", flags), vars(self.module), scope)
        changed: Callable[..., Any] = scope[self.function]
        for module in (self.module, *self.seen_in):
            monkeypatch.setattr(module, self.function, changed)


FAULTS = (
    Fault("a claim does not ask for the attempt", transitions, "claim", "run.attempt = k.attempt AND ", "", rare=True),
    Fault(
        "a finish does not ask whose attempt it ends",
        transitions,
        "finish",
        "run.attempt = k.attempt AND {_WORKER_IS}",
        "({_WORKER_IS} OR true)",
        rare=True,
    ),
    Fault("a limit of a task counts what runs and not what is queued", limits, "_tasks", _LIVE, _RUNNING, rare=True),
    Fault("a limit of a pool counts what runs and not what is queued", limits, "_pools", _LIVE, _RUNNING, rare=True),
    Fault("firing forgets the ledger", ledger, "record", "if not stretches", "if stretches is not None"),
    Fault("firing leaves a schedule where it was", firing, "_advance", "{_SET_NEXT}", "error = ''"),
    Fault(
        "a cancel leaves what has not started as it is",
        ending,
        "ask_to_end",
        "transitions.cancel_unstarted(unstarted, now=now, actor=actor, detail=detail)",
        "pass",
        rare=True,
    ),
    Fault(
        "a downstream run does not wait for its rule",
        acceptance,
        "_by_rule",
        "decide(TriggerRule(rule), states[run]) if rule else ",
        "",
    ),
    Fault(
        "what is ready is not marked so",
        acceptance,
        "accept_ended",
        "_make_ready(",
        "list(",
        seen_in=(loop,),
        rare=True,
    ),
    Fault("rescue takes the runs of the living", rescue, "_orphans", "IN ('lost', 'offline')", "<> 'offline'"),
    Fault("a lost message is not missed", rescue, "find_unclaimed", "if not overdue.exists()", "if overdue", rare=True),
    Fault("a key of a trigger is dropped", runs, "_firing", "=request.idempotency_key", "=None", rare=True),
)
