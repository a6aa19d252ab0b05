"""Whatever happens in whatever order, the invariants hold and every run comes to its end."""

from __future__ import annotations

import os

import pytest
from django.db import Error as DatabaseFault
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests import environment
from tests.dispatcher_app.machine.faults import FAULTS, Fault
from tests.dispatcher_app.machine.rules import Machine, machine_with

LONG = os.environ.get("TEST_LONG") == "1"
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, print_blob=True)
WALK = settings(
    QUIET,
    max_examples=500 if LONG else 12,
    stateful_step_count=60 if LONG else 25,
    derandomize=not LONG,
    # Making a failure smaller takes minutes; the long form takes them.
    phases=(Phase.generate, Phase.shrink) if LONG else (Phase.generate,),
)
SEARCH = settings(QUIET, max_examples=300, stateful_step_count=25, derandomize=True, phases=(Phase.generate,))
FEW = 3

pytestmark = pytest.mark.django_db


def faults() -> list[Fault]:
    """Those to be found by this run. The short form leaves out what takes long: the rare ones, and on PostgreSQL, where
    a step takes longer, all but a few. It finds the others on SQLite, by the same model."""
    if LONG:
        return list(FAULTS)
    quick = [fault for fault in FAULTS if not fault.rare]
    return quick[:FEW] if environment.on_postgresql() else quick


def test_no_order_of_events_breaks_an_invariant_or_loses_a_run():
    run_state_machine_as_test(Machine, settings=WALK)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_the_machine_finds_a_planted_fault(fault: Fault, monkeypatch):
    fault.plant(monkeypatch)
    with pytest.raises((AssertionError, DatabaseFault)):
        run_state_machine_as_test(machine_with(fault.features), settings=SEARCH)


def test_the_machine_sees_that_a_message_of_an_earlier_attempt_was_taken_for_its_own(monkeypatch):
    """The walk seldom comes there."""
    fault = next(fault for fault in FAULTS if fault.name == "a claim does not ask for the attempt")
    machine = Machine()
    machine.begin(features=set(), policy="allow", trigger_rule="all_success", catch_up="none", limit=3)
    machine.trigger(which=0, key=None, later=0)
    machine.tick(0)
    machine.deliver(0, 0)
    machine.attempt_ends(0, "fail")
    machine.time_passes(61)
    machine.tick(0)
    machine.deliver_an_old_one(0, 0)
    fault.plant(monkeypatch)
    with pytest.raises(AssertionError, match=r"not by this step: .* queued 2 -> running 2"):
        machine.deliver_an_old_one(0, 0)
    machine.teardown()
