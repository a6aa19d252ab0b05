"""The dispatcher's tick does the four steps; its loop outlives whatever a tick meets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError

from dispatcher_app import firing, loop, rescue
from dispatcher_app.loop import Dispatcher, TickReport
from dispatcher_app.models import Dispatcher as DispatcherRow
from tasks_app import transitions
from tasks_app.models import Run, Schedule, TaskDependency
from tasks_app.states import RunState
from tasks_app.wakeup import nudge
from tests.tasks_app.making import (
    ANSWERED,
    NOW,
    bring,
    depend,
    end,
    enqueue,
    later,
    make_schedule,
    make_task,
    make_worker,
    member,
    plan,
    start,
    state_of,
)
from tests.workers_app.jobs import wait_until
from workers_app.doorbell import Message
from workers_app.models import WorkerState

MINUTE = timedelta(minutes=1)


class Bell:
    """Stands for the publisher: remembers what was announced, or keeps it while it is `away`."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.away = False
        self.unsent = 0

    def publish(self, batch: Any) -> int:
        messages: list[Message] = list(batch)
        ids = [id for _pool, pairs in messages for id, _attempt in pairs]
        if self.away:
            self.unsent += len(messages)
            return 0
        self.heard += ids
        return len(ids)

    def is_empty(self, pool: str) -> bool:
        return True

    def close(self) -> None:
        self.away = True


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def dispatcher(bell: Bell) -> Dispatcher:
    return Dispatcher(publisher=bell)  # type: ignore[arg-type]


# One tick


@pytest.mark.django_db
def test_a_tick_settles_periods_and_starts_what_waited_for_them(dispatcher, bell):
    up, down = make_task(), make_task()
    TaskDependency.objects.create(upstream=up, downstream=down, period="day")
    (other,), (id,) = plan(up, nominal_at=NOW), plan(down, nominal_at=NOW)
    assert dispatcher.tick(NOW).periods == 0
    assert bell.heard == [other]
    pair = [(other, 1)]
    assert transitions.claim(pair, worker_id=ANSWERED, now=NOW, actor="test")
    end(other)
    report = dispatcher.tick(NOW)
    assert (report.periods, report.released, report.moved) == (1, 1, True)
    assert bell.heard == [other, id]


@pytest.mark.django_db
def test_a_long_look_at_periods_is_taken_a_twentieth_of_the_time(dispatcher, monkeypatch):
    clock, looks = [100.0], []

    def look(_now: datetime, *, actor: str) -> int:
        looks.append(clock[0])
        clock[0] += 0.5
        return 0

    monkeypatch.setattr(loop, "accept_periods", look)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for _ in range(30):
        dispatcher._settle_periods(NOW)
        clock[0] += 1.0
    assert looks == [100.0, 110.5, 121.0]


@pytest.mark.django_db
def test_a_tick_reports_what_it_moved(dispatcher, bell):
    schedule = make_schedule(after=NOW - MINUTE)
    up, down = make_task(), make_task()
    depend(up, down)
    (root,) = plan(up)
    bring(root, RunState.SUCCEEDED)
    dead = make_worker(state=WorkerState.ONLINE, lease_until=datetime(2020, 1, 1, tzinfo=UTC))
    make_worker(lease_until=datetime(2100, 1, 1, tzinfo=UTC))
    (orphan,) = plan(make_task())
    start(orphan, worker_id=dead.pk)
    (unheard,) = plan(make_task())
    enqueue(unheard, now=later(minutes=-1))
    report = dispatcher.tick(NOW)
    report.seconds = 0
    assert report == TickReport(
        schedules=1, fired=1, accepted=1, released=2, published=2, recovered=1, republished=1, full=False
    )
    assert report.moved
    fired = Run.objects.get(schedule=schedule).pk
    assert sorted(bell.heard[:2]) == sorted([member(root, down).pk, fired])
    # The orphan: its worker, if it still lives, hears that it is held for dead.
    assert bell.heard[2:] == [orphan, unheard]
    assert state_of(orphan) == RunState.LOST


@pytest.mark.django_db
def test_a_tick_with_nothing_to_do_moves_nothing(dispatcher, bell):
    make_schedule(after=NOW)
    plan(make_task(), due_at=later(seconds=1))
    assert not dispatcher.tick(NOW).moved
    assert bell.heard == []


@pytest.mark.django_db
def test_a_tick_without_rescue_leaves_the_dead_alone(dispatcher):
    (orphan,) = plan(make_task())
    start(orphan, worker_id=make_worker(state=WorkerState.LOST).pk)
    assert dispatcher.tick(NOW, rescue_too=False).recovered == 0
    assert state_of(orphan) == RunState.RUNNING


@pytest.mark.django_db
def test_a_tick_that_had_its_hands_full_asks_for_the_next_at_once(dispatcher, monkeypatch):
    plan(make_task(), 3)
    monkeypatch.setattr(loop, "BATCH", 3)
    assert dispatcher.tick(NOW).full
    assert not dispatcher.tick(NOW).full


@pytest.mark.django_db
def test_a_broker_that_is_away_holds_up_neither_firing_nor_rescue(dispatcher, bell):
    make_schedule(after=NOW - MINUTE)
    make_worker(lease_until=datetime(2100, 1, 1, tzinfo=UTC))
    (unheard,) = plan(make_task())
    enqueue(unheard, now=later(minutes=-1))
    bell.away = True
    report = dispatcher.tick(NOW)
    assert (report.fired, report.released, report.published, report.republished) == (1, 1, 0, 0)
    assert Run.objects.filter(state=RunState.QUEUED).count() == 2
    bell.away, bell.unsent = False, 0
    assert dispatcher.tick(NOW).republished == 1


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["fire_due", "release_ready"])
def test_a_step_that_fails_does_not_keep_the_others_from_their_work(dispatcher, monkeypatch, name):
    schedule = make_schedule(after=NOW - MINUTE)
    (ready,) = plan(make_task())
    (orphan,) = plan(make_task())
    start(orphan, worker_id=make_worker(state=WorkerState.LOST).pk)

    def fail(*_arguments: Any, **_options: Any) -> None:
        raise ValueError("one bad row")

    monkeypatch.setattr(loop, name, fail)
    with pytest.raises(ValueError, match="one bad row"):
        dispatcher.tick(NOW)
    assert state_of(orphan) == RunState.LOST
    assert (state_of(ready) == RunState.QUEUED) is (name == "fire_due")
    assert Run.objects.filter(schedule=schedule).exists() is (name == "release_ready")


@pytest.mark.django_db
def test_a_database_that_is_away_ends_the_tick_at_once(dispatcher, monkeypatch):
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(loop, "fire_due", fail)
    monkeypatch.setattr(rescue, "recover_orphans", lambda *a, **o: pytest.fail("asked a database that is away"))
    with pytest.raises(OperationalError):
        dispatcher.tick(NOW)


# The loop


@pytest.fixture
def pauses(dispatcher, in_thread, settings, monkeypatch):
    """The loop on a thread of its own, its ticks a minute apart: the lengths of the pauses that it has begun."""
    settings.SCHEDULER_TICK_SECONDS = 60.0
    wait: Callable[[float], bool] = dispatcher._waiter.wait
    begun: list[float] = []

    def noted(seconds: float) -> bool:
        begun.append(seconds)
        return wait(seconds)

    monkeypatch.setattr(dispatcher._waiter, "wait", noted)
    ended = in_thread(dispatcher.run)
    yield begun
    dispatcher.stop()
    ended.result(timeout=10)


def test_a_nudge_is_answered_before_the_next_tick_is_due(pauses):
    # The first pause ends at once: there the waiter begins to listen.
    assert wait_until(lambda: len(pauses) == 2)
    assert pauses[1] == 60.0
    (id,) = plan(make_task(), now=datetime.now(UTC))
    nudge()
    assert wait_until(lambda: state_of(id) == RunState.QUEUED)


def test_the_loop_signs_on_and_off(dispatcher, in_thread):
    ready = threading.Event()
    ended = in_thread(dispatcher.run, ready.set)
    assert ready.wait(10)
    assert DispatcherRow.objects.get().name == dispatcher.name
    dispatcher.stop()
    ended.result(timeout=10)
    assert not DispatcherRow.objects.exists()


def test_a_tick_that_raises_does_not_end_the_loop(dispatcher, in_thread, monkeypatch):
    original, calls = firing.fire_due, []

    def sometimes(now: datetime, **options: Any) -> Any:
        calls.append(now)
        if len(calls) <= 2:
            raise ValueError("one bad tick")
        return original(now, **options)

    monkeypatch.setattr(loop, "fire_due", sometimes)
    schedule = make_schedule(after=datetime.now(UTC) - MINUTE)
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=datetime.now(UTC) - timedelta(seconds=1))
    ready = threading.Event()
    ended = in_thread(dispatcher.run, ready.set)
    assert ready.wait(10)
    assert wait_until(lambda: len(calls) >= 3), "a third tick"
    dispatcher.stop()
    ended.result(timeout=10)
    assert Schedule.objects.get(pk=schedule.pk).fired_until in calls[2:]


def test_a_loop_that_is_stopped_before_it_starts_does_nothing(dispatcher, in_thread):
    dispatcher.stop()
    in_thread(dispatcher.run, lambda: pytest.fail("it ticked")).result(timeout=10)


@pytest.mark.django_db
def test_the_pause_lasts_to_the_next_instant_and_no_longer_than_a_tick(dispatcher, settings):
    settings.SCHEDULER_TICK_SECONDS = 5.0
    assert dispatcher._pause() == 5.0
    make_schedule(after=NOW)
    Schedule.objects.update(next_fire_at=datetime.now(UTC) + timedelta(seconds=2))
    assert 1.5 < dispatcher._pause() <= 2.0
    Schedule.objects.update(next_fire_at=datetime.now(UTC) - timedelta(seconds=2))
    assert dispatcher._pause() == 0.0


@pytest.mark.django_db(transaction=True)
def test_after_an_outage_workers_get_time_to_renew_their_leases_before_they_are_judged(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    worker = make_worker(lease_until=later(days=-1))
    dispatcher = Dispatcher(publisher=Bell())  # type: ignore[arg-type]

    def state_after(seconds: float) -> str:
        clock[0] += seconds
        dispatcher._guarded_tick()
        worker.refresh_from_db()
        return worker.state

    assert [state_after(0), state_after(3), state_after(3)] == [WorkerState.ONLINE] * 3
    assert state_after(1) == WorkerState.LOST
    worker.state = WorkerState.ONLINE
    worker.save(update_fields=["state"])
    assert state_after(20) == WorkerState.ONLINE, "nothing was heard of the database for longer than half a lease"
    assert [state_after(3), state_after(3)] == [WorkerState.ONLINE] * 2
    assert state_after(1) == WorkerState.LOST
