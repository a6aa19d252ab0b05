"""Faults to plant: a line of the product changed, as somebody could have written it."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from dataclasses import dataclass
from operator import attrgetter
from types import ModuleType
from typing import Any

import pytest

from dispatcher_app import acceptance, firing, gates, limits, release, rescue
from tasks_app import breaker, ending, jitter, ledger, planning, transitions
from tasks_app.services import runs
from tests.dispatcher_app.machine.scene import Feature
from workers_app import execution, lifecycle, ownership

_LIVE, _RUNNING = "state__in=sorted(LIVE)", 'state="running"'


@dataclass(frozen=True, slots=True)
class Fault:
    """`old` becomes `new` in the source of a function (`name` or `Class.name`) of the module.

    It is looked for with these features; without any, with those that are drawn. `rare` ones take up to minutes to be
    found, which only the long form has.
    """

    name: str
    module: ModuleType
    function: str
    old: str
    new: str
    features: tuple[Feature, ...] = ()
    rare: bool = False

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Raises AssertionError where the line is no longer there: then the fault has to be written anew."""
        function: Any = attrgetter(self.function)(self.module)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) >= 1, f"{self.module.__name__}.{self.function} has no {self.old!r}"
        scope: dict[str, Any] = {}
        flags = __future__.annotations.compiler_flag
        exec(compile(source.replace(self.old, self.new), self.module.__name__, "exec", flags), vars(self.module), scope)
        # In its place, so that the modules that know the function by name have it as well.
        monkeypatch.setattr(function, "__code__", scope[function.__name__].__code__)


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
        rare=True,
    ),
    Fault(
        "rescue takes the runs of the living", rescue, "_orphans", "IN ('lost', 'offline')", "<> 'offline'", rare=True
    ),
    Fault("a lost message is not missed", rescue, "find_unclaimed", "if not unclaimed.exists()", "if unclaimed"),
    Fault("what was announced again is not put off", rescue, "_of_pools", "_put_off(found, now)", "pass"),
    Fault("what waits in a queue is announced again", rescue, "_of_pools", "if is_empty(name)", ""),
    Fault("a worker does not ask whose its runs are", ownership, "look", "pair not in own", "False", rare=True),
    Fault(
        "a worker believes in its lease for too long",
        lifecycle,
        "Node.beat",
        "asked_at + settings.SCHEDULER_LEASE_SECONDS",
        "asked_at + 2 * settings.SCHEDULER_LEASE_SECONDS",
        rare=True,
    ),
    Fault(
        "a frozen worker is let alone until its runs are given away",
        lifecycle,
        "_longest_silence",
        "max(lease - settings.SCHEDULER_HEARTBEAT_SECONDS - PULSE_SECONDS, lease / 2)",
        "4 * lease",
        rare=True,
    ),
    Fault("a worker whose reaper gave up goes on", lifecycle, "Node.pulse", "raise LeaseLost", "return", rare=True),
    Fault(
        "what the reaper may have ended is written down",
        execution,
        "Execution._complete",
        "reaper.gave_up",
        "False",
        rare=True,
    ),
    Fault("a key of a trigger is dropped", runs, "_firing", "=request.idempotency_key", "=None", rare=True),
    Fault(
        "a limit of a key counts what runs and not what is queued",
        limits,
        "_tasks",
        "room.live_of_key[task_id, key] = n",
        'room.live_of_key[task_id, key] = live.filter(task=task_id, concurrency_key=key, state="running").count()',
        features=(Feature.KEYS,),
        rare=True,
    ),
    Fault(
        "the weight of a run is ignored",
        limits,
        "_pools",
        'Sum("weight")',
        'Count("pk")',
        features=(Feature.WEIGHTS,),
        rare=True,
    ),
    Fault(
        "the amount that a run takes of a resource is ignored",
        limits,
        "_live_of_resources",
        "sum(used.amount)",
        "count(*)",
        features=(Feature.CAPACITY,),
        rare=True,
    ),
    Fault(
        "runs start while their resource is closed",
        gates,
        "_resource",
        "not resource.calendar.allows(now)",
        "False",
        features=(Feature.WINDOW,),
    ),
    Fault(
        "a breaker lets everything through at half open",
        breaker,
        "ask",
        "Decision(max(breaker.wave - breaker.wave_successes - live, 0))",
        "Decision(None)",
        features=(Feature.BREAKER,),
    ),
    Fault(
        "a breaker does not open again in time",
        breaker,
        "ask",
        "now < breaker.open_until",
        "True",
        features=(Feature.BREAKER,),
    ),
    Fault(
        "starts under a rate are not counted",
        release,
        "_count_starts",
        "if started:",
        "if not started:",
        features=(Feature.RATES,),
    ),
    Fault(
        "a fixed delay does not wait for the end of its run",
        firing,
        "rearm",
        "Q(ended__isnull=False)",
        "Q(newest__isnull=False)",
        features=(Feature.DELAY,),
        rare=True,
    ),
    Fault(
        "jitter goes beyond the next instant",
        jitter,
        "jittered",
        "room = min(room, max(next_nominal - nominal - _MICROSECOND, timedelta(0)))",
        "pass",
        features=(Feature.JITTER,),
    ),
    Fault(
        "a calendar is not asked",
        firing,
        "_answer",
        "calendars.of(schedule.calendar_id)",
        "None",
        features=(Feature.CALENDARS,),
    ),
    Fault(
        "a backfill ignores how many may run at once",
        limits,
        "_backfills",
        "counted.get(id, 0)",
        "0",
        features=(Feature.BACKFILLS,),
        rare=True,
    ),
    Fault(
        "a paused backfill goes on", gates, "backfill", "if active else 0", "", features=(Feature.BACKFILLS,), rare=True
    ),
    Fault(
        "a start deadline is ignored",
        planning,
        "_expires_at",
        "firing.start_deadline_seconds or firing.task.start_deadline_seconds",
        "0",
        features=(Feature.DEADLINES,),
    ),
    Fault(
        "the first run of a period counts for its last",
        acceptance,
        "_settling",
        "ORDER BY last.nominal_at DESC",
        "ORDER BY last.nominal_at",
        features=(Feature.PERIODS,),
        rare=True,
    ),
    Fault(
        "a rule starts what still waits for a period",
        acceptance,
        "_judge",
        "held_back=_lock_open(rules)",
        "held_back=()",
        features=(Feature.PERIODS,),
    ),
    Fault(
        "a conditional edge always opens",
        acceptance,
        "_holds",
        "parsed is not None and parsed.holds(values)",
        "True",
        features=(Feature.CONDITIONS,),
    ),
)
