"""A worker's lease, its watch over its runs, and its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError

from tasks_app import rowset
from tasks_app.models import Run
from tests.tasks_app.making import default_pool, enqueue, make_task, plan, start, state_of
from tests.workers_app.jobs import make_job, wait_until
from workers_app import folders, hosts, lifecycle, messages
from workers_app.jobs import Active, Control
from workers_app.lifecycle import Node
from workers_app.management.commands import run_worker
from workers_app.messages import queue_name, worker_address
from workers_app.models import Worker, WorkerState
from workers_app.ownership import LeaseLost
from workers_app.reaper import reaper

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def node(settings) -> Iterator[Node]:
    """Started; its threads sleep, so that each step is the test's to take."""
    settings.SCHEDULER_HEARTBEAT_SECONDS = 3600
    settings.SCHEDULER_KILL_GRACE_SECONDS = 0.2
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WATCH_SECONDS", "OUTPUT_SECONDS", "SWEEP_SECONDS", "PULSE_SECONDS"):
            patch.setattr(lifecycle, name, 3600)
        patch.setattr(hosts, "pool", hosts.HostPool())
        # Nobody beats here.
        patch.setattr(lifecycle, "_longest_silence", lambda: 0.0)
        made = Node(pool=default_pool(), slots=2, labels={"zone": "a"})
        made.start()
        yield made
        made.execution.close()
        made._stop.set()
        for thread in made._threads:
            thread.join(10)
        folders.folder.close()
        reaper.close()
        reaper.start("", 0)
        reaper.close()


def worker_row(node: Node) -> Worker:
    return Worker.objects.get(pk=node.id)


def under_way(node: Node, run: int, attempt: int = 1) -> Control:
    active = Active(make_job(run_id=run, attempt=attempt))
    node.execution.active[run] = active
    return active.control


def test_a_worker_registers_with_a_lease_and_renews_it(node):
    row = worker_row(node)
    assert (row.state, row.slots, row.labels) == (WorkerState.ONLINE, 2, {"zone": "a"})
    Worker.objects.filter(pk=node.id).update(lease_until=row.started_at)
    node.beat()
    assert worker_row(node).lease_until > rowset.database_now() + timedelta(seconds=5)


def test_a_beat_tells_the_load(node):
    under_way(node, 1)
    node.beat()
    row = worker_row(node)
    assert row.slots_used == 1
    assert row.memory_bytes is not None and row.memory_percent is not None
    node.execution.active.clear()


def test_what_was_dropped_is_told_with_a_beat_and_once_more_at_the_end(node, monkeypatch):
    monkeypatch.setattr(messages, "dropped", messages.Tally())
    messages.dropped.inc()
    node.beat()
    assert worker_row(node).messages_dropped == 1
    messages.dropped.inc()
    assert worker_row(node).messages_dropped == 1
    node.drain(0.1)
    assert worker_row(node).messages_dropped == 2


def test_a_worker_that_is_cordoned_through_its_row_refuses_from_its_next_beat_on_until_it_is_called_back(node):
    for state, refuses in ((WorkerState.CORDONED, True), (WorkerState.ONLINE, False)):
        Worker.objects.filter(pk=node.id).update(state=state)
        assert node.execution.refusing is not refuses
        node.beat()
        assert node.execution.refusing is refuses
        assert worker_row(node).state == state


def test_a_worker_that_is_asked_to_drain_through_its_row_ends_its_process_when_its_runs_are_over(node, monkeypatch):
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: ended.append(number))
    under_way(node, 1)
    Worker.objects.filter(pk=node.id).update(state=WorkerState.DRAINING)
    node.beat()
    node.orders.leave_when_idle()
    assert node.execution.refusing and ended == []
    node.execution.active.clear()
    node.watch()
    assert ended == [signal.SIGTERM]
    node.drain(0.1)
    assert ended == [signal.SIGTERM] and worker_row(node).state == WorkerState.OFFLINE


@pytest.mark.parametrize("gone", ["lost", "offline", "deleted"])
def test_a_worker_that_is_held_for_dead_renews_nothing(node, gone):
    if gone == "deleted":
        Worker.objects.filter(pk=node.id).delete()
    else:
        Worker.objects.filter(pk=node.id).update(state=gone)
    before = list(Worker.objects.filter(pk=node.id).values_list("lease_until"))
    with pytest.raises(LeaseLost):
        node.beat()
    assert list(Worker.objects.filter(pk=node.id).values_list("lease_until")) == before


def test_a_worker_whose_reaper_has_given_it_up_neither_begins_nor_beats(node, monkeypatch):
    node.pulse()
    assert node._holds_lease()
    monkeypatch.setattr(reaper, "_gave_up", True)
    assert not node._holds_lease()
    with pytest.raises(LeaseLost):
        node.pulse()


def test_a_worker_that_lost_its_lease_ends_its_runs_and_itself(node, monkeypatch):
    ended: list[Any] = []
    control = under_way(node, 1)

    class Ended(BaseException):
        pass

    def exit_process(code: int) -> None:
        ended.append((code, control.why, node.execution.refusing))
        raise Ended

    monkeypatch.setattr(os, "_exit", exit_process)
    Worker.objects.filter(pk=node.id).update(state=WorkerState.LOST)
    with pytest.raises(Ended):
        node._loop(0, node.beat)
    assert ended == [(70, Control.LOST, True)]


def test_a_worker_that_was_frozen_past_its_lease_claims_nothing_until_it_has_renewed_it(node, monkeypatch):
    assert node._holds_lease()
    later = time.monotonic() + 16
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not node._holds_lease()
    node.beat()
    assert node._holds_lease()


def test_what_others_may_begin_again_ends_before_the_lease_does_and_nothing_else(node, monkeypatch):
    ids = plan(make_task(), 2)
    again, once = (under_way(node, id) for id in ids)
    active = node.execution.active[ids[0]]
    active.job = replace(active.job, retry_on_lost=True)
    began = node._lease_end - 15
    for seconds, why in ((0.0, None), (13.9, None), (14.1, Control.LOST)):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: began + seconds)
        node.let_go_in_doubt()
        assert (again.why, once.why) == (why, None)
    assert node._holds_lease()


def test_a_worker_asks_the_broker_whether_it_is_held_for_dead_only_once_its_lease_is_over(node, monkeypatch):
    answers = [True, False]
    monkeypatch.setattr(node, "_notices", SimpleNamespace(told=answers.pop, close=lambda: None))
    node.hear_of_fencing()
    assert len(answers) == 2
    later = node._lease_end + 0.1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    node.hear_of_fencing()
    with pytest.raises(LeaseLost):
        node.hear_of_fencing()
    assert not answers


def test_the_watch_ends_what_was_cancelled_and_what_is_not_ours_any_more(node):
    cancelled, killed, fine, given_away, next_attempt, deleted = plan(make_task(), 6)
    for id in (cancelled, killed, fine, next_attempt, deleted):
        start(id, worker_id=node.id)
    start(given_away, worker_id=uuid4())
    controls = {id: under_way(node, id) for id in (cancelled, killed, fine, given_away, next_attempt, deleted)}
    Run.objects.filter(pk__in=[cancelled, killed]).update(cancel_requested_at=rowset.database_now())
    Run.objects.filter(pk=killed).update(terminate_requested_at=rowset.database_now())
    Run.objects.filter(pk=next_attempt).update(attempt=2)
    Run.objects.filter(pk=deleted).delete()
    node.watch()
    assert {id: control.why for id, control in controls.items()} == {
        cancelled: Control.CANCEL,
        killed: Control.KILL,
        fine: None,
        given_away: Control.LOST,
        next_attempt: Control.LOST,
        deleted: Control.LOST,
    }
    node.execution.active.clear()


def test_a_run_that_was_claimed_but_never_begun_is_handed_back_after_some_looks(node, monkeypatch):
    stray, fine = plan(make_task(), 2)
    start(stray, fine, worker_id=node.id)
    under_way(node, fine)
    node.watch()
    assert state_of(stray) == "running", "one look may fall between the claim and the start"
    monkeypatch.setattr(lifecycle, "STRAY_SECONDS", 0.0)
    node.watch()
    assert wait_until(lambda: state_of(stray) == "waiting")
    assert (state_of(fine), Run.objects.get(pk=stray).attempt) == ("running", 2)
    node.execution.active.clear()


def test_draining_waits_for_runs_and_signs_off(node, in_thread):
    under_way(node, 1)
    draining = in_thread(node.drain, 20)
    assert wait_until(lambda: worker_row(node).state == WorkerState.DRAINING)
    assert not draining.done()
    node.beat()
    node.execution.active.clear()
    draining.result(20)
    row = worker_row(node)
    assert row.state == WorkerState.OFFLINE and row.stopped_at is not None


def test_draining_ends_what_does_not_end_in_time(node):
    control = under_way(node, 1)
    control.on_end(node.execution.active.clear)
    node.drain(0.1)
    assert control.why == Control.STOPPING
    assert worker_row(node).state == WorkerState.OFFLINE


def test_draining_goes_on_without_a_database(node, monkeypatch):
    from django.db import OperationalError

    def away(*_arguments: object) -> None:
        raise OperationalError("no route")

    monkeypatch.setattr(rowset, "database_now", away)
    control = under_way(node, 1)
    control.on_end(node.execution.active.clear)
    node.drain(0.1)
    assert control.why == Control.STOPPING


@pytest.mark.parametrize(("queue", "handed_back_to"), [("own", "own"), ("pool", "pool"), (None, "pool")])
def test_an_envelope_that_is_refused_goes_back_to_the_queue_that_it_came_from(node, queue, handed_back_to):
    rung: list[Any] = []
    node.execution._ring = rung.extend
    node.execution.refusing = True
    addresses = {"own": worker_address(node.id), "pool": node.pool.name}
    node.execute([(1, 1), (2, 1)], queue=None if queue is None else queue_name(addresses[queue]))
    assert {address for address, _pairs in rung} == {addresses[handed_back_to]}
    assert sorted(pair for _address, pairs in rung for pair in pairs) == [(1, 1), (2, 1)]


def test_what_is_queued_to_a_worker_that_drains_is_looked_at_at_once(node):
    mine, other = plan(make_task(), 2)
    enqueue(mine, other)
    Run.objects.filter(pk=mine).update(target_id=node.id)
    later = Run.objects.get(pk=other).sweep_at
    node.drain(0.1)
    assert Run.objects.get(pk=mine).sweep_at != later == Run.objects.get(pk=other).sweep_at


@pytest.mark.parametrize(
    ("given", "labels"),
    [([], {}), (["zone=a", "gpu", "mem=64", "note=a = b"], {"zone": "a", "gpu": "true", "mem": "64", "note": "a = b"})],
)
def test_labels_are_read_from_the_command_line(given, labels):
    assert run_worker._labels(given) == labels


@pytest.mark.parametrize("given", ["", "=a", "1=a", "and", "in=b", "a b=c", "x" * 64, "x=\n", "x=" + "v" * 201])
def test_a_label_that_no_expression_could_name_is_refused(given):
    with pytest.raises(CommandError, match="NAME=VALUE"):
        run_worker._labels([given])
