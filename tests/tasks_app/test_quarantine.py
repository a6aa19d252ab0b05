"""Quarantine: what is known of the workers that died with a run, and the ways out."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from access_app.actors import Actor, system_actor, user_actor
from access_app.models import AuditEntry
from dispatcher_app.rescue import recover_orphans
from tasks_app import deaths
from tasks_app.deaths import Cause, Death
from tasks_app.errors import InvalidInput, NotFound, PermissionRefused, WrongState
from tasks_app.models import Run, RunOutput, WorkerDeath
from tasks_app.retry import POISON_LIMIT
from tasks_app.services import quarantine
from tasks_app.services.quarantine import Release
from tasks_app.states import RunState
from tests.tasks_app.command_line import refused, run_command
from tests.tasks_app.making import ACTOR, NOW, bring, make_task, make_worker, plan, start, state_of
from workers_app.models import WorkerState

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


def quarantined(**fields: Any) -> Run:
    """A run with which as many workers have died as its task allows."""
    values = {"executor": "shell", "command": "true", "retry_on_lost": True, **fields}
    (id,) = plan(make_task(**values), params={"n": 1})
    while state_of(id) != RunState.QUARANTINED:
        start(id, worker_id=make_worker(state=WorkerState.LOST).pk)
        assert len(recover_orphans(NOW, actor=ACTOR)) == 1
    return Run.objects.select_related("task__project", "version").get(pk=id)


def release(run: Run, how: str = Release.AS_IS, actor=SYSTEM, **fields: Any) -> Run:
    return quarantine.release(actor, run, how, now=NOW, **fields)


@pytest.mark.parametrize("limit", [1, POISON_LIMIT, 5])
def test_a_run_is_quarantined_after_as_many_deaths_as_its_task_says_and_each_is_on_record(limit):
    run = quarantined(poison_limit=limit)
    assert (run.worker_deaths, run.attempt, run.reason) == (limit, limit, "poison")
    found = deaths.of_run(run)
    assert [(death.attempt, death.at, death.host) for death in found] == [(n + 1, NOW, "node") for n in range(limit)]
    assert len({death.worker_id for death in found}) == limit
    assert all(death.signal is None and death.out_of_memory is None for death in found), "not known yet"


def test_the_cause_is_added_to_the_deaths_of_that_worker_alone_once_its_runs_are_judged():
    worker, other = make_worker(), make_worker(state=WorkerState.LOST)
    task = make_task(retry_on_lost=True)
    mine, beside, foreign = plan(task, 3)
    start(mine, beside, worker_id=worker.pk)
    start(foreign, worker_id=other.pk)
    cause = Cause(signal=9, out_of_memory=True, peak_mb=120, peaks_of_runs={mine: 800}, last_words="\x00bye")
    assert not deaths.explain(worker.pk, cause), "nobody has looked for its runs yet"
    type(worker).objects.filter(pk=worker.pk).update(state=WorkerState.LOST)
    assert len(recover_orphans(NOW, actor=ACTOR)) == 3
    assert deaths.explain(worker.pk, cause)
    rows = {death.run_id: death for death in WorkerDeath.objects.all()}
    columns = ("signal", "out_of_memory", "worker_peak_mb", "run_peak_mb", "last_words")
    told = {id: tuple(getattr(rows[id], name) for name in columns) for id in rows}
    assert told == {
        mine: (9, True, 120, 800, "\ufffdbye"),
        beside: (9, True, 120, None, "\ufffdbye"),
        foreign: (None, None, None, None, ""),
    }


def test_the_last_lines_of_each_attempt_are_those_before_its_death():
    (id,) = plan(make_task())
    run = Run.objects.get(pk=id)
    for attempt, number in ((1, 5), (2, 70)):
        lines = [["2026-03-02T12:00:00Z", "stdout", f"{attempt}.{n}"] for n in range(number)]
        for first in range(0, number, 40):
            part = lines[first : first + 40]
            RunOutput.objects.create(run=run, attempt=attempt, first_line=first, line_count=len(part), lines=part)
    deaths.record([Death(id, attempt, uuid4(), "w", "node") for attempt in (1, 2, 3)], now=NOW)
    found = deaths.last_lines(run)
    assert found[1] == ["1.0", "1.1", "1.2", "1.3", "1.4"]
    assert found[2] == [f"2.{n}" for n in range(50, 70)]
    assert found[3] == []


@pytest.mark.parametrize(
    ("how", "given", "had", "expected"),
    [
        (Release.AS_IS, None, 100, (None, False)),
        (Release.ALONE, None, 100, (None, True)),
        (Release.MORE_MEMORY, None, 100, (200, False)),
        (Release.MORE_MEMORY, 150, 100, (150, False)),
        (Release.MORE_MEMORY, 512, None, (512, False)),
    ],
)
def test_a_release_is_a_new_run_and_the_old_one_stays_as_it_is(how, given, had, expected):
    run = quarantined(memory_limit_mb=had)
    again = release(run, how, memory_limit_mb=given)
    assert (again.memory_limit_mb, again.alone) == expected
    assert (again.rerun_of_id, again.state, again.params, again.attempt) == (run.pk, "waiting", {"n": 1}, 1)
    assert state_of(run.pk) == RunState.QUARANTINED
    (entry,) = AuditEntry.objects.filter(verb="release")
    assert entry.after is not None
    assert (entry.object_id, entry.after["run"], entry.after["how"]) == (str(run.pk), again.pk, how)


def test_more_memory_is_more_again_after_a_second_quarantine():
    run = quarantined(memory_limit_mb=100)
    Run.objects.filter(pk=run.pk).update(memory_limit_mb=300)
    run.refresh_from_db()
    assert quarantine.more_memory(run) == 600
    assert release(run, Release.ALONE).memory_limit_mb == 300, "what it had been given it keeps"


@pytest.mark.parametrize(
    ("how", "given", "field"),
    [
        (Release.MORE_MEMORY, None, "memory_limit_mb"),
        (Release.MORE_MEMORY, 0, "memory_limit_mb"),
        (Release.MORE_MEMORY, 2**40, "memory_limit_mb"),
        (Release.ALONE, 100, "memory_limit_mb"),
        ("twice", None, "how"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused_at_its_field(how, given, field):
    run = quarantined()
    with pytest.raises(InvalidInput) as error:
        release(run, how, memory_limit_mb=given)
    assert list(error.value.errors) == [field]
    assert Run.objects.count() == 1


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.RUNNING, RunState.FAILED, RunState.LOST])
def test_only_a_run_in_quarantine_can_be_released(state):
    (id,) = plan(make_task())
    bring(id, state)
    with pytest.raises(WrongState, match="not in quarantine"):
        release(Run.objects.select_related("task__project", "version").get(pk=id))


def test_a_second_release_waits_for_the_end_of_the_first():
    run = quarantined()
    first = release(run)
    with pytest.raises(WrongState, match=f"Run #{first.pk} is under way"):
        release(run)
    bring(first.pk, RunState.FAILED)
    assert release(run).pk != first.pk


def test_who_may_run_the_task_may_release_it_and_a_stranger_sees_nothing(bob, charlie, project):
    run = quarantined(project=project)
    with pytest.raises(NotFound):
        release(run, actor=user_actor(charlie))
    with pytest.raises(PermissionRefused):
        release(run, actor=Actor("bob", bob, role_cap="viewer"))
    assert release(run, actor=user_actor(bob)).rerun_of_id == run.pk


def test_the_command_releases_and_says_which_run_it_is_now():
    run = quarantined(memory_limit_mb=64)
    text = run_command("release_run", str(run.pk), "--how", "more_memory")
    again = Run.objects.latest("pk")
    assert f"Run {again.pk} is planned." in text
    assert again.memory_limit_mb == 128
    assert refused("release_run", str(again.pk)).returncode == 2
