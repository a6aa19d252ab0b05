"""What a worker does when its row asks it to take nothing new, to go on, or to leave."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workers_app.listening import QueueListening
from workers_app.load import Gauge, Load
from workers_app.models import WorkerState
from workers_app.orders import Orders


class Worker:
    """An execution, a consumer and a process that write down what is asked of them."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.active: dict[int, Any] = {}
        self.refusing = False
        self.orders = Orders(self, leave=lambda: self.told.append("leave"))  # type: ignore[arg-type]
        self.orders.listening = self

    def stop_claiming(self) -> None:
        self.refusing = True
        self.told.append("close")

    def stop(self) -> None:
        self.told.append(f"stop, refusing {self.refusing}")

    def go_on(self) -> None:
        self.told.append(f"go on, refusing {self.refusing}")


def test_a_cordoned_worker_refuses_before_it_stops_listening_and_takes_up_both_again():
    worker = Worker()
    for state in (WorkerState.ONLINE, WorkerState.CORDONED, WorkerState.CORDONED):
        worker.orders.obey(state)
    assert worker.told == ["stop, refusing True"]
    worker.orders.obey(WorkerState.ONLINE)
    worker.orders.obey(WorkerState.ONLINE)
    assert worker.told == ["stop, refusing True", "go on, refusing False"]


@pytest.mark.parametrize("before", [WorkerState.ONLINE, WorkerState.CORDONED])
def test_a_draining_worker_leaves_once_when_its_last_run_is_over_and_not_before(before):
    worker = Worker()
    worker.orders.obey(before)
    worker.active[1] = object()
    worker.orders.leave_when_idle()
    worker.told.clear()
    worker.orders.obey(WorkerState.DRAINING)
    worker.orders.leave_when_idle()
    assert worker.told == ["stop, refusing " + str(before == WorkerState.CORDONED), "close"]
    worker.active.clear()
    worker.orders.leave_when_idle()
    worker.orders.leave_when_idle()
    assert worker.told[2:] == ["leave"]


def test_a_draining_worker_is_not_called_back():
    worker = Worker()
    worker.orders.obey(WorkerState.DRAINING)
    worker.orders.obey(WorkerState.ONLINE)
    assert worker.refusing
    assert "go on" not in " ".join(worker.told)


def test_a_process_that_ends_already_is_asked_for_nothing_more():
    worker = Worker()
    worker.orders.stand_down()
    worker.orders.obey(WorkerState.DRAINING)
    worker.orders.leave_when_idle()
    assert worker.told == []


def test_an_idle_worker_that_is_online_stays():
    worker = Worker()
    worker.orders.leave_when_idle()
    assert worker.told == []


# Listening


class Gone(Exception):
    """The connection is."""


class Consumer:
    """Stands in for Celery's: steps are done when the test says so."""

    connection_errors, channel_errors = (Gone,), ()

    def __init__(self) -> None:
        self.told: list[str] = []
        self.steps: list[Any] = []
        self.task_consumer: object | None = object()
        self.app = SimpleNamespace(amqp=SimpleNamespace(queues=self))

    def call_soon(self, step: Any, *arguments: Any) -> None:
        self.steps.append((step, arguments))

    def work(self) -> None:
        for step, arguments in self.steps:
            step(*arguments)
        self.steps.clear()

    def __getitem__(self, name: str) -> str:
        return name

    def deselect(self, name: str) -> None:
        self.told.append(f"deselect {name}")

    def select_add(self, name: str) -> None:
        self.told.append(f"select {name}")

    def cancel_task_queue(self, name: str) -> None:
        self.told.append(f"cancel {name}")

    def add_task_queue(self, name: str) -> None:
        self.told.append(f"add {name}")
        if name == "broken":
            raise Gone


def test_the_consumer_is_told_on_its_own_thread_for_each_queue():
    consumer = Consumer()
    listening = QueueListening(SimpleNamespace(consumer=consumer), ["a", "b"])
    listening.stop()
    assert consumer.told == []
    consumer.work()
    assert consumer.told == ["deselect a", "cancel a", "deselect b", "cancel b"]


def test_without_a_connection_only_the_next_one_is_told():
    consumer = Consumer()
    consumer.task_consumer = None
    listening = QueueListening(SimpleNamespace(consumer=consumer), ["a"])
    listening.stop()
    listening.go_on()
    consumer.work()
    assert consumer.told == ["deselect a", "select a"]


def test_a_connection_that_breaks_meanwhile_does_not_reach_the_loop_of_the_consumer():
    consumer = Consumer()
    QueueListening(SimpleNamespace(consumer=consumer), ["broken", "b"]).go_on()
    consumer.work()
    assert consumer.told == ["select broken", "add broken", "select b", "add b"]


def test_a_worker_whose_consumer_has_not_started_has_nobody_to_tell():
    QueueListening(SimpleNamespace(), ["a"]).stop()
    QueueListening(SimpleNamespace(consumer=None), ["a"]).go_on()


# Load


def test_the_load_of_this_machine_is_within_its_bounds():
    gauge = Gauge()
    sum(range(1_000_000))
    load = gauge.read(3)
    assert load.slots_used == 3
    assert load.cpu_percent is None or 0 <= load.cpu_percent <= 100
    assert load.memory_percent is not None and 0 < load.memory_percent < 100
    assert load.memory_bytes is not None and load.memory_bytes > 10 * 1024 * 1024


def test_processors_are_measured_from_reading_to_reading(monkeypatch):
    times = iter([(10.0, 100.0), (40.0, 200.0), (40.0, 200.0), (40.5, 220.0)])
    monkeypatch.setattr("workers_app.load._processor_seconds", lambda: next(times))
    gauge = Gauge()
    assert [gauge.read(0).cpu_percent for _ in range(3)] == [30.0, None, 2.5]


def test_a_figure_that_cannot_be_had_does_not_fail_the_beat(monkeypatch):
    gauge = Gauge()

    def broken() -> None:
        raise OSError("no /proc")

    monkeypatch.setattr("workers_app.load.psutil.virtual_memory", broken)
    assert gauge.read(2) == Load(2)
