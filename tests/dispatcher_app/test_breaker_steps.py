"""A circuit breaker by the steps of the dispatcher alone: what ended attempts tell it, and what it then lets start."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from dispatcher_app.noting import note_ended
from dispatcher_app.release import release_ready
from tasks_app import transitions
from tasks_app.models import Resource, Run, Task, TaskResource
from tasks_app.moves import Outcome
from tasks_app.states import Reason, RunState
from tests.tasks_app.making import ACTOR, ANSWERED, later, make_task, plan

pytestmark = pytest.mark.django_db
S, F, RETRY = RunState.SUCCEEDED, RunState.FAILED, RunState.WAITING
FAILURES, OPEN_SECONDS = 3, 30


def guarded(**fields: Any) -> tuple[Task, Resource]:
    """A task and the resource that it uses, whose breaker opens after three failed attempts in a row."""
    rules = {"breaker_failures": FAILURES, "breaker_open_seconds": OPEN_SECONDS, **fields}
    resource = Resource.objects.create(name="api", **rules)
    return user_of(resource), resource


def user_of(resource: Resource) -> Task:
    task = make_task()
    TaskResource.objects.create(task=task, resource=resource)
    return task


def tick(second: float) -> list[int]:
    """Note, then release, as the dispatcher does. The runs that were released."""
    now = later(seconds=second)
    while note_ended(now):
        pass
    return [run.id for run in release_ready(now, actor=ACTOR)]


def work(ids: list[int], to: RunState, second: float, *, reason: str = Reason.CONNECTION) -> None:
    """A worker claims the released runs and ends their attempts."""
    now = later(seconds=second)
    attempts = list(Run.objects.filter(pk__in=ids).values_list("pk", "attempt"))
    assert len(transitions.claim(attempts, worker_id=ANSWERED, now=now, actor=ACTOR)) == len(ids)
    ended = [_outcome(id, attempt, to, reason, now) for id, attempt in attempts]
    assert transitions.finish(ended, worker_id=ANSWERED, now=now, actor=ACTOR) == set(ids)


def _outcome(id: int, attempt: int, to: RunState, reason: str, now: datetime) -> Outcome:
    if to is RETRY:
        return Outcome(id, attempt, to, reason, retry_at=now)
    return Outcome(id, attempt, to, reason="" if to is S else reason)


def state_of(resource: Resource) -> str:
    return Resource.objects.values_list("breaker_state", flat=True).get(pk=resource.pk)


def tripped(task: Task, resource: Resource) -> None:
    """At second 1 its attempts have failed so often that the breaker opened; it stays open until second 31."""
    plan(task, FAILURES)
    work(tick(0), F, 0.5)
    assert tick(1) == []
    assert state_of(resource) == "open"


def waiting(task: Task) -> set[tuple[str, int]]:
    rows = Run.objects.filter(task=task, state=RunState.WAITING)
    return {(run.reason, run.attempt) for run in rows}


def test_failed_attempts_open_it_and_no_run_starts_while_it_is_open():
    task, resource = guarded()
    (one,) = plan(task)
    for second in range(FAILURES):
        assert tick(second) == [one], "a run that is tried again tells of each of its attempts"
        assert state_of(resource) == "closed"
        work([one], RETRY, second + 0.5)
    ids = plan(task, 5)
    (free,) = plan(make_task())
    assert tick(3) == [free], "what opens it is known before anything is released"
    assert state_of(resource) == "open"
    for still in (4, 20, 32.9):
        assert tick(still) == []
    assert waiting(task) == {("", 1), (Reason.CONNECTION, FAILURES + 1)}, "waiting costs no attempt"
    assert Run.objects.filter(pk__in=ids, queued_at=None).count() == 5


def test_then_exactly_one_probe_goes_for_all_tasks_of_the_resource():
    task, resource = guarded()
    other = user_of(resource)
    tripped(task, resource)
    plan(task, 3)
    plan(other, 3)
    assert tick(30.9) == []
    probe = tick(31)
    assert (len(probe), state_of(resource)) == (1, "half_open")
    assert tick(31) == tick(40) == [], "not while the probe is queued"
    transitions.claim([(probe[0], 1)], worker_id=ANSWERED, now=later(seconds=41), actor=ACTOR)
    assert tick(42) == [], "nor while it runs"


def test_success_lets_waves_go_and_then_closes_it_for_all_that_is_left():
    task, resource = guarded()
    tripped(task, resource)
    ids = plan(task, 40)
    waves, second = [], 31
    while state_of(resource) != "closed":
        wave = tick(second)
        assert tick(second) == [], "no more than the wave"
        waves.append(len(wave))
        work(wave, S, second)
        second += 1
        while note_ended(later(seconds=second)):
            pass
    assert waves == [1, 2, 4, 8, 16]
    rest = tick(second)
    assert len(rest) == len(ids) - sum(waves)
    work(rest, F, second)
    assert tick(second + 1) == []
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_openings) == ("open", 1), "it had closed: not a second opening"


def test_a_capacity_ends_the_waves_where_they_would_exceed_it():
    task, resource = guarded(capacity=3)
    tripped(task, resource)
    plan(task, 9)
    sizes = []
    for second in range(31, 35):
        wave = tick(second)
        sizes.append(len(wave))
        work(wave, S, second)
    assert sizes == [1, 2, 3, 3]
    assert state_of(resource) == "closed"


@pytest.mark.parametrize("ending", [F, RETRY])
def test_a_probe_that_fails_opens_it_again_for_longer(ending):
    task, resource = guarded()
    tripped(task, resource)
    plan(task, 4)
    work(tick(31), ending, 32)
    assert tick(33) == []
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_openings) == ("open", 2)
    assert resource.breaker_open_until == later(seconds=33 + 2 * OPEN_SECONDS)
    assert tick(92.9) == []
    probe = tick(93)
    assert len(probe) == 1
    work(probe, S, 94)
    assert len(tick(95)) == 2


def test_a_failure_in_a_wave_opens_it_and_successes_of_that_wave_close_nothing():
    task, resource = guarded()
    tripped(task, resource)
    plan(task, 9)
    work(tick(31), S, 32)
    bad, good = tick(33)
    work([bad], F, 34)
    assert tick(35) == []
    work([good], S, 36)
    assert tick(37) == []
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_openings) == ("open", 2)


@pytest.mark.parametrize("reason", [Reason.WORKER_LOST, Reason.SCRIPT_MISSING])
def test_a_probe_that_says_nothing_of_the_target_is_followed_by_another(reason):
    task, resource = guarded()
    tripped(task, resource)
    first, second = plan(task, 2)
    assert tick(31) == [first]
    work([first], F, 32, reason=reason)
    assert tick(33) == [second]
    assert state_of(resource) == "half_open"


def test_with_the_clock_set_back_there_is_still_one_probe_and_it_is_heard():
    task, resource = guarded()
    tripped(task, resource)
    first, second, *_rest = plan(task, 5)
    assert tick(31) == [first]
    work([first], F, 32, reason=Reason.WORKER_LOST)
    assert tick(5) == [second], "the lost probe makes room for one"
    assert tick(6) == tick(20) == []
    work([second], S, 21)
    assert len(tick(22)) == 2
    assert state_of(resource) == "half_open"


def test_runs_from_before_it_opened_are_no_probes_and_close_nothing():
    task, resource = guarded()
    early = plan(task, 2)
    assert tick(0) == early
    tripped(task, resource)
    plan(task, 9)
    assert len(tick(31)) == 1, "those that still run take no place of the probe"
    work([early[0]], S, 32)
    work([early[1]], F, 32)
    assert tick(33) == []
    resource.refresh_from_db()
    assert (resource.breaker_state, resource.breaker_wave, resource.breaker_wave_successes) == ("half_open", 1, 0)
