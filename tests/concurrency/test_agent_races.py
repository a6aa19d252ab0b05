"""Agents that ask at the same time, and reports that meet the rescue of their run."""

from __future__ import annotations

from typing import Any

import pytest

from access_app.models import WorkerKey
from tasks_app import transitions
from tasks_app.models import Run
from tasks_app.moves import Outcome
from tasks_app.rowset import database_now
from tasks_app.states import RunState
from tests.tasks_app.making import ACTOR, state_of
from tests.workers_app.agents import make_key, queued
from workers_app import agent_reports, agents
from workers_app.models import Worker

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def start(key: WorkerKey | None = None, slots: int = 1) -> Worker:
    return agents.register(key or make_key()[0], agents.Wish(slots=slots, executors=["shell"]))


def claim(worker: Worker) -> set[int]:
    return {active.job.run_id for active in agents.claim(worker, set(), now=database_now()).runs}


def test_two_claims_of_one_worker_at_once_get_the_same_runs_and_no_more_than_its_slots(hold, blocked):
    worker = start()
    first, second = queued(2)
    one = hold(lambda: claim(worker))
    other = blocked(lambda: claim(worker))
    assert one.commit() == {first} == other.result(20)
    assert state_of(second) == RunState.QUEUED


def test_two_workers_at_once_get_different_runs_without_waiting(hold):
    key = make_key()[0]
    one, other = start(key), start(key)
    first, second = queued(2)
    held = hold(lambda: claim(one))
    assert claim(other) == {second}
    assert held.commit() == {first}


def test_lines_that_are_sent_twice_at_once_are_kept_once_and_the_longer_report_whole(hold, blocked):
    worker = start()
    (run,) = queued()
    claim(worker)

    def write(*texts: str) -> int:
        lines = [agent_reports.Line(0, "stdout", text) for text in texts]
        return agent_reports.write_output(worker, run, 1, 0, lines, truncated=False, now=database_now())

    short = hold(lambda: write("a"))
    long = blocked(lambda: write("a", "b"))
    assert (short.commit(), long.result(20)) == (1, 2)
    rows = Run.objects.get(pk=run).output_batches.order_by("first_line").values_list("first_line", "line_count")
    assert list(rows) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("report", ["log", "finish"])
def test_a_report_that_meets_the_rescue_of_its_run_finds_it_gone(hold, blocked, report):
    worker = start()
    (run,) = queued()
    claim(worker)

    def rescue() -> Any:
        lost = Outcome(run, 1, RunState.LOST, "worker_lost", worker_died=True)
        return transitions.recover([lost], now=database_now(), actor=ACTOR)

    def tell() -> Any:
        if report == "finish":
            return agent_reports.finish(worker, run, agent_reports.End(1, 0, 0), now=database_now())
        line = agent_reports.Line(0, "stdout", "x")
        return agent_reports.write_output(worker, run, 1, 0, [line], truncated=False, now=database_now())

    rescued = hold(rescue)
    told = blocked(tell)
    assert rescued.commit() == {run}
    with pytest.raises(agent_reports.NotYours):
        told.result(20)
    assert state_of(run) == RunState.LOST and not Run.objects.get(pk=run).output_batches.exists()
