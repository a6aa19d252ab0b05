"""From envelope to result, against a real database: what is claimed, tried again, handed back, and never lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError

from tasks_app import moves, run_output, transitions
from tasks_app.models import EndStep, Run, RunEvent, RunOutput, StoredOutput
from tasks_app.states import Reason, RunState
from tests.tasks_app.making import enqueue, make_task, plan, start, state_of
from tests.workers_app.jobs import wait_until
from workers_app import execution as execution_module
from workers_app import hosts
from workers_app.execution import SHORT_SECONDS, Execution
from workers_app.jobs import Control, Job, Result
from workers_app.limits import Limits
from workers_app.output import OutputSink
from workers_app.reaper import reaper

pytestmark = pytest.mark.django_db(transaction=True)
WORKER = uuid4()
Body = Callable[[Job, Control, OutputSink], Result]


class Rung:
    """What was handed back to the broker."""

    def __init__(self) -> None:
        self.messages: list[list[tuple[int, int]]] = []

    def __call__(self, batch: Any) -> None:
        self.messages += [pairs for _pool, pairs in batch]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return [pair for pairs in self.messages for pair in pairs]


@pytest.fixture
def rung() -> Rung:
    return Rung()


@pytest.fixture
def worker(rung: Rung) -> Iterator[Execution]:
    made = Execution(worker_id=WORKER, actor="worker test", ring=rung)
    yield made
    made.close()


@pytest.fixture
def body(monkeypatch: pytest.MonkeyPatch) -> Callable[[Body], None]:
    """Have every run do this instead of what its task says."""

    def use(execute: Body) -> None:
        monkeypatch.setattr(execution_module, "implementation", lambda _name: execute)

    return use


def queued(*, alone: bool = False, run: dict[str, Any] | None = None, **fields: Any) -> int:
    (id,) = plan(make_task(executor="shell", **{"command": "true", **fields}), alone=alone, **(run or {}))
    enqueue(id)
    return id


def row(id: int) -> Run:
    return Run.objects.get(pk=id)


def gives(state: RunState = RunState.SUCCEEDED, **result: Any) -> Body:
    return lambda _job, _control, _sink: Result(state, **result)


def until_ended(_job: Job, control: Control, _sink: OutputSink) -> Result:
    ended = threading.Event()
    control.on_end(ended.set)
    assert ended.wait(20)
    return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED)


def in_background(worker: Execution, *ids: int) -> threading.Thread:
    """The worker executes them on a thread; returns when all are under way."""
    thread = threading.Thread(target=worker.execute, args=([(id, 1) for id in ids], "default"))
    thread.start()
    assert wait_until(lambda: set(ids) <= worker.active.keys())
    return thread


def test_a_queued_run_is_executed_with_its_own_parameters_and_its_result_kept(worker, body):
    seen: list[Job] = []

    def keep(job: Job, _control: Control, sink: OutputSink) -> Result:
        seen.append(job)
        sink.feed("stdout", b"hello\n")
        return Result(RunState.SUCCEEDED, exit_code=0, output={"rows": 3})

    body(keep)
    task = make_task(executor="shell", command="load", params={"a": 1, "b": 1})
    (id,) = plan(task, params={"b": 2})
    enqueue(id)
    worker.execute([(id, 1)], "default")
    run = row(id)
    assert (run.state, run.exit_code, run.output) == (RunState.SUCCEEDED, 0, {"rows": 3})
    assert (seen[0].command, seen[0].params) == ("load", {"a": 1, "b": 2})
    assert [line[2] for batch in RunOutput.objects.filter(run=id) for line in batch.lines] == ["hello"]
    assert worker.active == {}


def test_a_stale_message_starts_nothing(worker, body):
    started: list[int] = []

    def note(job: Job, _control: Control, _sink: OutputSink) -> Result:
        started.append(job.run_id)
        return Result(RunState.SUCCEEDED)

    body(note)
    other_attempt, waiting, running, cancelled, good = queued(), *plan(make_task(), 1), queued(), queued(), queued()
    transitions.claim([(running, 1)], worker_id=uuid4(), now=datetime.now(UTC), actor="another")
    transitions.cancel_unstarted([cancelled], now=datetime.now(UTC), actor="somebody")
    worker.execute([(other_attempt, 2), (waiting, 1), (running, 1), (cancelled, 1), (10**9, 1), (good, 1)], "default")
    assert started == [good]
    assert [state_of(id) for id in (other_attempt, waiting, running, cancelled)] == [
        "queued",
        "waiting",
        "running",
        "cancelled",
    ]


def test_a_message_that_comes_twice_starts_one_run(worker, body):
    started: list[int] = []

    def note(job: Job, _control: Control, _sink: OutputSink) -> Result:
        started.append(job.run_id)
        return Result(RunState.SUCCEEDED)

    body(note)
    id = queued()
    threads = [threading.Thread(target=worker.execute, args=([(id, 1), (id, 1)], "default")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert started == [id]


@pytest.mark.parametrize(
    ("result", "retry_count", "state", "attempt"),
    [
        (Result(RunState.FAILED), 1, "waiting", 2),
        (Result(RunState.TIMED_OUT), 1, "waiting", 2),
        (Result(RunState.FAILED), 0, "failed", 1),
        (Result(RunState.FAILED, retryable=False), 1, "failed", 1),
        (Result(RunState.CANCELLED), 1, "cancelled", 1),
        (Result(RunState.SUCCEEDED), 1, "succeeded", 1),
    ],
)
def test_a_failure_is_tried_again_while_the_task_allows_it(worker, body, result, retry_count, state, attempt):
    body(lambda _job, _control, _sink: result)
    id = queued(retry_count=retry_count)
    worker.execute([(id, 1)], "default")
    assert (row(id).state, row(id).attempt) == (state, attempt)


NEVER = {"exit_codes": [3], "exceptions": ["LookupError"], "statuses": ["429"]}


@pytest.mark.parametrize(
    ("result", "final"),
    [
        (Result(RunState.FAILED, exit_code=3), True),
        (Result(RunState.FAILED, exit_code=4), False),
        (Result(RunState.FAILED, exit_code=1, exceptions=("KeyError", "LookupError", "Exception")), True),
        (Result(RunState.FAILED, exit_code=1, exceptions=("ValueError", "Exception")), False),
        (Result(RunState.FAILED, status=429, asked_delay=9.0), True),
        (Result(RunState.FAILED, status=503), False),
    ],
)
def test_what_the_task_calls_final_is_not_tried_again_and_says_so(worker, body, result, final):
    body(lambda _job, _control, _sink: replace(result, detail="It broke."))
    id = queued(retry_count=5, never_retry=NEVER)
    worker.execute([(id, 1)], "default")
    run = row(id)
    if final:
        assert (run.state, run.attempt) == ("failed", 1)
        assert run.reason_detail == "It broke. Not tried again: the task says that this failure is final (never_retry)."
    else:
        assert (run.state, run.attempt, run.reason_detail) == ("waiting", 2, "It broke.")


def test_the_last_attempt_says_that_none_is_left_and_a_task_without_retries_says_nothing(worker, body):
    body(gives(RunState.FAILED, detail="It broke."))
    single, last = queued(), queued(retry_count=1)
    Run.objects.filter(pk=last).update(attempt=2)
    worker.execute([(single, 1)], "default")
    worker.execute([(last, 2)], "default")
    assert [row(id).reason_detail for id in (single, last)] == ["It broke.", "It broke. Retries used up: 1 of 1."]


def test_the_delay_doubles_up_to_the_cap_and_is_spread_by_chance(worker, body, monkeypatch):
    monkeypatch.setattr("workers_app.outcomes.random.random", lambda: 0.25)
    body(gives(RunState.FAILED))
    fields: dict[str, Any] = {"retry_count": 9, "retry_delay_seconds": 100, "retry_cap_seconds": 300}
    for attempt, jitter, seconds in ((1, False, 100), (2, False, 200), (3, False, 300), (3, True, 75)):
        id = queued(**fields, retry_jitter=jitter)
        Run.objects.filter(pk=id).update(attempt=attempt)
        before = datetime.now(UTC)
        worker.execute([(id, attempt)], "default")
        assert timedelta(seconds=seconds) <= row(id).due_at - before < timedelta(seconds=seconds + 20)


def test_the_budget_for_retries_counts_from_the_first_start(worker, body):
    body(gives(RunState.FAILED, detail="It broke."))
    fields: dict[str, Any] = {
        "retry_count": 9,
        "retry_delay_seconds": 1,
        "retry_jitter": False,
        "retry_budget_seconds": 60,
    }
    fresh, within, beyond = queued(**fields), queued(**fields), queued(**fields)
    for id, seconds in ((within, 30), (beyond, 59.5)):
        Run.objects.filter(pk=id).update(attempt=3)
        for attempt, ago in ((1, seconds), (2, 5)):
            at = datetime.now(UTC) - timedelta(seconds=ago)
            RunEvent.objects.create(run_id=id, at=at, from_state="queued", to_state="running", attempt=attempt)
    worker.execute([(fresh, 1)], "default")
    worker.execute([(within, 3)], "default")
    worker.execute([(beyond, 3)], "default")
    assert [row(id).state for id in (fresh, within, beyond)] == ["waiting", "waiting", "failed"]
    assert row(beyond).reason_detail == (
        "It broke. Not tried again: it would start more than 60 s after its first start (retry_budget_seconds)."
    )


def test_the_delay_that_a_run_asks_for_is_kept(worker, body):
    body(gives(RunState.FAILED, asked_delay=600.0))
    id = queued(retry_count=1)
    before = datetime.now(UTC)
    worker.execute([(id, 1)], "default")
    assert timedelta(seconds=599) < row(id).due_at - before < timedelta(seconds=620)


def test_a_run_that_was_asked_to_cancel_is_not_tried_again(worker, body):
    """The worker looks once a second; a run may fail in between."""

    def fail_after_cancel(job: Job, _control: Control, _sink: OutputSink) -> Result:
        if job.run_id == asked:
            Run.objects.filter(pk=asked).update(cancel_requested_at=datetime.now(UTC))
        return Result(RunState.FAILED)

    body(fail_after_cancel)
    asked, other = queued(retry_count=3), queued(retry_count=3)
    worker.execute([(asked, 1)], "default")
    worker.execute([(other, 1)], "default")
    assert (row(asked).state, row(asked).attempt, row(asked).reason) == ("cancelled", 1, Reason.CANCEL_REQUESTED)
    assert (row(other).state, row(other).attempt) == ("waiting", 2)


@pytest.mark.parametrize(("retry_on_lost", "state", "attempt"), [(True, "waiting", 2), (False, "lost", 1)])
def test_a_stopping_worker_hands_back_what_may_run_again_and_records_the_rest_as_lost(
    worker, body, retry_on_lost, state, attempt
):
    body(until_ended)
    id = queued(retry_on_lost=retry_on_lost)
    thread = in_background(worker, id)
    worker.end_all(Control.STOPPING)
    thread.join()
    assert (row(id).state, row(id).attempt, row(id).reason) == (state, attempt, Reason.WORKER_STOPPED)


def test_the_steps_of_an_ending_are_written_while_it_goes_on_and_each_once(worker, body):
    let_go = threading.Event()

    def end_slowly(_job: Job, control: Control, _sink: OutputSink) -> Result:
        until_ended(_job, control, _sink)
        control.took(EndStep.Step.TERM)
        assert let_go.wait(20)
        control.took(EndStep.Step.KILL)
        return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED)

    body(end_slowly)
    id = queued()
    thread = in_background(worker, id)
    assert not EndStep.objects.exists()
    before = datetime.now(UTC)
    for why in (Control.CANCEL, Control.CANCEL, Control.KILL):
        worker.active[id].control.end(why)
    assert wait_until(lambda: worker.write_output() or EndStep.objects.count() == 2)
    let_go.set()
    thread.join()
    steps = list(EndStep.objects.filter(run=id, attempt=1).order_by("pk"))
    assert [step.step for step in steps] == ["acknowledged", "term", "kill"]
    assert before <= steps[0].at <= steps[1].at <= steps[2].at <= datetime.now(UTC)


def test_a_run_that_must_be_alone_waits_for_the_others_and_lets_nobody_in(worker, body, rung):
    under_way: set[int] = set()
    beside: dict[int, set[int]] = {}
    gates: dict[int, threading.Event] = {}

    def note(job: Job, _control: Control, _sink: OutputSink) -> Result:
        beside[job.run_id] = set(under_way)
        under_way.add(job.run_id)
        assert gates[job.run_id].wait(20)
        under_way.discard(job.run_id)
        return Result(RunState.SUCCEEDED)

    body(note)
    early, alone, second, late = queued(), queued(alone=True), queued(alone=True), queued()
    gates |= {id: threading.Event() for id in (early, alone, second, late)}
    threads = [in_background(worker, early), in_background(worker, alone)]
    for id in (second, late):
        threads.append(threading.Thread(target=worker.execute, args=([(id, 1)], "default")))
        threads[-1].start()
    assert wait_until(lambda: under_way == {early})
    assert [state_of(id) for id in (alone, second, late)] == ["running", "queued", "queued"]
    gates[early].set()
    assert wait_until(lambda: under_way == {alone})
    for id in (second, late, alone):
        gates[id].set()
    for thread in threads:
        thread.join()
    assert [state_of(id) for id in (early, alone, second, late)] == ["succeeded"] * 4
    assert beside[alone] == set() and beside[second] <= {late}


def test_a_run_that_waits_to_be_alone_can_be_cancelled_and_never_begins(worker, body):
    begun: list[int] = []
    gate = threading.Event()

    def note(job: Job, _control: Control, _sink: OutputSink) -> Result:
        begun.append(job.run_id)
        assert gate.wait(20)
        return Result(RunState.SUCCEEDED)

    body(note)
    early, alone = queued(), queued(alone=True)
    threads = [in_background(worker, early), in_background(worker, alone)]
    worker.active[alone].control.end(Control.CANCEL)
    threads[1].join()
    assert (state_of(alone), row(alone).reason_detail) == ("cancelled", "Ended before it had begun.")
    gate.set()
    threads[0].join()
    assert begun == [early] and not worker._solitude.is_wanted


def test_the_limits_of_the_version_apply_and_more_memory_where_the_run_was_given_it(worker, body):
    seen: dict[int, Limits] = {}

    def note(job: Job, _control: Control, _sink: OutputSink) -> Result:
        seen[job.run_id] = job.limits
        return Result(RunState.SUCCEEDED)

    body(note)
    limits: dict[str, Any] = {"memory_limit_mb": 64, "cpu_limit_seconds": 9, "open_files_limit": 99}
    plain, released, free = queued(**limits), queued(**limits, run={"memory_limit_mb": 128}), queued()
    for id in (plain, released, free):
        worker.execute([(id, 1)], "default")
    assert seen == {plain: Limits(64, 9, 99), released: Limits(128, 9, 99), free: Limits()}


def test_a_run_that_somebody_cancelled_stays_cancelled_when_the_worker_stops(worker, body):
    body(until_ended)
    id = queued(retry_on_lost=True)
    thread = in_background(worker, id)
    worker.active[id].control.end(Control.CANCEL)
    worker.end_all(Control.STOPPING)
    thread.join()
    assert row(id).state == "cancelled"


def test_the_end_of_a_run_that_was_lost_changes_nothing(worker, body):
    """A frozen worker comes back: its run is another worker's by now, at the next attempt."""
    other = uuid4()

    def lose(job: Job, _control: Control, _sink: OutputSink) -> Result:
        now = datetime.now(UTC)
        lost = moves.Outcome(job.run_id, 1, RunState.WAITING, retry_at=now, worker_died=True)
        assert transitions.recover([lost], now=now, actor="rescue") == {job.run_id}
        start(job.run_id, worker_id=other)
        return Result(RunState.SUCCEEDED, output={"by": "zombie"})

    body(lose)
    id = queued()
    worker.execute([(id, 1)], "default")
    run = row(id)
    assert (run.state, run.attempt, run.worker_id, run.output) == ("running", 2, other, None)
    assert worker.active == {}


def test_nothing_is_recorded_of_a_run_that_is_known_to_be_lost(worker, body):
    body(until_ended)
    lost, other = queued(), queued()
    threads = [in_background(worker, lost), in_background(worker, other)]
    worker.active[lost].control.end(Control.LOST)
    worker.active[other].control.end(Control.CANCEL)
    for thread in threads:
        thread.join()
    assert (state_of(lost), state_of(other)) == ("running", "cancelled")


def deep(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param({"output": deep(3000)}, id="deep"),
        # SQLite takes a number of any size.
        pytest.param({"exit_code": 2**40}, id="large", marks=pytest.mark.postgresql),
    ],
)
def test_a_result_that_the_database_refuses_still_ends_the_run(worker, body, refused):
    def end(job: Job, _control: Control, sink: OutputSink) -> Result:
        sink.feed("stdout", b"said\n")
        return Result(RunState.SUCCEEDED, **(refused if job.run_id == bad else {"output": {"fine": 1}}))

    body(end)
    bad, good = queued(), queued()
    worker.execute([(bad, 1)], "default")
    worker.execute([(good, 1)], "default")
    assert (row(bad).state, row(bad).reason) == ("failed", Reason.INTERNAL)
    assert (row(good).state, row(good).output) == ("succeeded", {"fine": 1})
    assert worker.active == {}


def test_an_executor_that_raises_fails_its_run(worker, body):
    def broken(_job: Job, _control: Control, _sink: OutputSink) -> Result:
        raise OSError(24, "Too many open files")

    body(broken)
    id = queued()
    worker.execute([(id, 1)], "default")
    assert (row(id).state, row(id).reason) == ("failed", Reason.INTERNAL)
    assert "Too many open files" in row(id).reason_detail


def test_a_claim_that_cannot_read_its_task_is_undone(worker, body, monkeypatch):
    """Else the run would be ours for ever, and never begun."""
    body(gives())
    id = queued()
    failures = iter([OperationalError("server closed the connection")])
    load = worker._load_specs

    def load_at_last(versions: set[int]) -> None:
        for error in failures:
            raise error
        load(versions)

    monkeypatch.setattr(worker, "_load_specs", load_at_last)
    worker.execute([(id, 1)], "default")
    assert state_of(id) == "succeeded"
    assert RunEvent.objects.filter(run=id, to_state="running").count() == 1


def test_a_result_is_kept_through_an_outage(worker, body, monkeypatch):
    body(gives())
    id = queued()
    failures = iter([OperationalError("the database system is starting up")] * 3)
    finish = transitions.finish

    def finish_at_last(*arguments: Any, **options: Any) -> set[int]:
        for error in failures:
            raise error
        return finish(*arguments, **options)

    monkeypatch.setattr(transitions, "finish", finish_at_last)
    worker.execute([(id, 1)], "default")
    assert state_of(id) == "succeeded"


def test_the_next_attempt_of_a_run_is_under_way_while_the_end_of_the_last_one_is_tidied_up(worker, body, monkeypatch):
    """Claimed again on the same worker before the first thread is through: it must not be forgotten with the first."""
    id = queued(retry_count=1)
    second_began, first_done = threading.Event(), threading.Event()
    record = worker._results.record

    def record_slowly(*arguments: Any) -> set[int]:
        moved: set[int] = record(*arguments)
        if not second_began.is_set():
            enqueue(id)
            threading.Thread(target=worker.execute, args=([(id, 2)], "default")).start()
            assert second_began.wait(10)
        return moved

    def work(job: Job, _control: Control, _sink: OutputSink) -> Result:
        if job.attempt == 2:
            second_began.set()
            assert first_done.wait(10)
            return Result(RunState.SUCCEEDED)
        return Result(RunState.FAILED)

    monkeypatch.setattr(worker._results, "record", record_slowly)
    body(work)
    worker.execute([(id, 1)], "default")
    assert worker.active[id].job.attempt == 2
    first_done.set()
    assert wait_until(lambda: state_of(id) == "succeeded" and not worker.active)


def test_a_worker_that_stops_hands_a_message_back_unopened(worker, rung, body):
    body(gives())
    id = queued()
    worker.stop_claiming()
    worker.execute([(id, 1)], "default")
    assert state_of(id) == "queued" and rung.pairs == [(id, 1)]


def test_a_worker_without_a_lease_keeps_a_message_until_it_may_claim_again(rung, body):
    body(gives())
    id = queued()
    asked = threading.Semaphore(0)
    holds = [False]

    def holds_lease() -> bool:
        asked.release()
        return holds[0]

    worker = Execution(worker_id=WORKER, actor="worker test", ring=rung, holds_lease=holds_lease)
    thread = threading.Thread(target=worker.execute, args=([(id, 1)], "default"))
    thread.start()
    for _look in range(3):
        assert asked.acquire(timeout=10)
    assert state_of(id) == "queued" and rung.pairs == []
    holds[0] = True
    thread.join(10)
    assert state_of(id) == "succeeded" and rung.pairs == []
    worker.close()


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_claimed_before_a_freeze_begins_only_where_the_lease_is_still_held_after_it(rung, body, lost):
    begun: list[int] = []

    def note(job: Job, _control: Control, _sink: OutputSink) -> Result:
        begun.append(job.run_id)
        return Result(RunState.SUCCEEDED)

    body(note)
    id = queued()
    frozen, looks = threading.Event(), threading.Semaphore(0)

    def holds_lease() -> bool:
        # It stands still right after its claim.
        if id not in frozen_one.active:
            return True
        looks.release()
        return frozen.is_set()

    frozen_one = Execution(worker_id=WORKER, actor="worker test", ring=rung, holds_lease=holds_lease)
    thread = threading.Thread(target=frozen_one.execute, args=([(id, 1)], "default"))
    thread.start()
    for _look in range(3):
        assert looks.acquire(timeout=10)
    assert begun == [] and state_of(id) == "running"
    if lost:
        frozen_one.active[id].control.end(Control.LOST)
    else:
        frozen.set()
    thread.join(10)
    assert (begun, state_of(id)) == (([], "running") if lost else ([id], "succeeded"))
    assert not frozen_one.active
    frozen_one.close()


def test_what_the_reaper_has_ended_is_not_written_down_as_its_own_end(worker, body, monkeypatch):
    def killed(_job: Job, _control: Control, _sink: OutputSink) -> Result:
        monkeypatch.setattr(reaper, "_gave_up", True)
        return Result(RunState.FAILED, exit_code=-9)

    body(killed)
    id = queued()
    worker.execute([(id, 1)], "default")
    assert state_of(id) == "running" and not worker.active


def test_a_worker_told_to_stop_before_it_has_its_lease_back_hands_the_message_back(rung, body):
    body(gives())
    id = queued()
    asked = threading.Event()

    def holds_lease() -> bool:
        asked.set()
        return False

    worker = Execution(worker_id=WORKER, actor="worker test", ring=rung, holds_lease=holds_lease)
    thread = threading.Thread(target=worker.execute, args=([(id, 1)], "default"))
    thread.start()
    assert asked.wait(10)
    worker.stop_claiming()
    thread.join(10)
    assert state_of(id) == "queued" and rung.pairs == [(id, 1)]
    worker.close()


def test_the_rest_of_a_pack_does_not_wait_behind_a_long_run(worker, rung, body):
    body(gives(busy_seconds=SHORT_SECONDS))
    ids = [queued() for _ in range(4)]
    worker.execute([(id, 1) for id in ids], "default")
    assert [state_of(id) for id in ids] == ["succeeded", "queued", "queued", "queued"]
    assert rung.messages == [[(ids[1], 1), (ids[2], 1)], [(ids[3], 1)]]


def test_a_pack_of_short_calls_stays_whole_though_its_process_took_long_to_start(worker, rung, monkeypatch):
    cold = hosts.HostPool()
    monkeypatch.setattr(hosts, "pool", cold)
    ids = plan(make_task(executor="callable", command="workers_app.samples.noop"), 3)
    enqueue(*ids)
    worker.execute([(id, 1) for id in ids], "default")
    cold.close()
    assert [state_of(id) for id in ids] == ["succeeded"] * 3 and rung.messages == []


def test_a_stray_is_handed_back_and_a_run_of_another_worker_is_not(worker):
    stray, other = plan(make_task(), 2)
    start(stray, worker_id=WORKER)
    start(other)
    worker.hand_back([(stray, 1), (other, 1)])
    assert wait_until(lambda: state_of(stray) == "waiting")
    assert (row(stray).attempt, state_of(other)) == (2, "running")


def test_output_is_in_the_database_while_the_run_goes_on(worker, body):
    go = threading.Event()

    def speak(_job: Job, _control: Control, sink: OutputSink) -> Result:
        sink.feed("stdout", b"first\n")
        assert go.wait(20)
        sink.feed("stdout", b"second\n")
        return Result(RunState.SUCCEEDED)

    body(speak)
    id = queued()
    thread = in_background(worker, id)

    def lines() -> list[str]:
        worker.write_output()
        return [line[2] for batch in RunOutput.objects.filter(run=id) for line in batch.lines]

    assert wait_until(lambda: lines() == ["first"])
    go.set()
    thread.join()
    assert lines() == ["first", "second"]


def test_the_output_of_a_large_run_is_moved_and_that_of_a_small_one_is_not(worker, body, settings, tmp_path):
    settings.SCHEDULER_OUTPUT_STORE = f"file://{tmp_path}"
    settings.SCHEDULER_OUTPUT_STORE_FROM_BYTES = 1000

    def speak(job: Job, _control: Control, sink: OutputSink) -> Result:
        sink.feed("stdout", b"a line\n" * (500 if job.run_id == large else 5))
        sink.close()
        return Result(RunState.SUCCEEDED)

    body(speak)
    small, large = queued(), queued()
    for id in (small, large):
        worker.execute([(id, 1)], "default")
    assert wait_until(lambda: StoredOutput.objects.filter(run=large, line_count=500).exists())
    assert wait_until(lambda: set(RunOutput.objects.values_list("run", flat=True)) == {small})
    assert run_output.log_lines(row(large), offset=499, limit=5)[0][0]["text"] == "a line"
