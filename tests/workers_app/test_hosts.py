"""Callables on warm hosts: results, and that a bad one harms none but itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app.jobs import is_alive, make_job, no_new_files, texts, wait_until
from workers_app import hosts
from workers_app.hosts import HostDied, HostPool
from workers_app.jobs import Active, Control, Result
from workers_app.output import OutputSink
from workers_app.packs import Pack

OURS = "tests.workers_app.callables."


@pytest.fixture(scope="module")
def warm() -> Iterator[HostPool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCHEDULER_CALLABLES", "tests.workers_app.callables")
        pool = HostPool()
        yield pool
        pool.close()


class Calls:
    """A pack of calls: `results` by place, as they come."""

    def __init__(self, pool: HostPool, *calls: tuple[str, dict[str, Any]], timeout_seconds: float = 30.0) -> None:
        self.actives = [
            Active(make_job(OURS + name, executor="callable", run_id=n, params=params, timeout_seconds=timeout_seconds))
            for n, (name, params) in enumerate(calls)
        ]
        self.sinks = [OutputSink(n, 1) for n in range(len(calls))]
        self.results: dict[int, Result] = {}
        self.times_answered = 0
        entries = list(zip(self.actives, self.sinks, strict=True))
        self._thread = threading.Thread(target=Pack(pool, entries, self._emit).run)

    def _emit(self, active: Active, _sink: OutputSink, result: Result) -> None:
        self.times_answered += 1
        self.results[active.job.run_id] = result

    def start(self) -> Calls:
        self._thread.start()
        return self

    def join(self) -> Sequence[Result]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.times_answered == len(self.actives), "each call is answered exactly once"
        return [self.results[n] for n in range(len(self.actives))]


def call(pool: HostPool, name: str, timeout_seconds: float = 30.0, **params: Any) -> tuple[Result, list[str]]:
    calls = Calls(pool, (name, params), timeout_seconds=timeout_seconds).start()
    (result,) = calls.join()
    return result, texts(calls.sinks[0])


@pytest.mark.parametrize("value", [None, 3, "text ü\ud800", [1, {"a": None}], {"k": 1.5}])
def test_the_returned_value_is_the_output(warm, value):
    result, _lines = call(warm, "give", value=value)
    assert (result.state, result.output) == (RunState.SUCCEEDED, value)


def test_the_trace_of_an_exception_is_in_the_output_without_our_own_frames(warm):
    _result, lines = call(warm, "leave", code=3)
    assert lines[0].startswith("Traceback") and "in leave" in lines[1]


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("not_json", {}, "TypeError"),
        ("not_a_number", {}, "ValueError"),
        ("give", {"value": "x" * 70_000}, "at most 65536"),
        ("nested", {"depth": 5000}, "RecursionError"),
        ("give", {"wrong": 1}, "unexpected keyword argument"),
        ("leave", {"code": 3}, "SystemExit: 3"),
    ],
)
def test_what_cannot_be_a_result_fails_the_run_with_a_sentence_and_the_trace(warm, name, params, sentence):
    result, lines = call(warm, name, **params)
    assert (result.state, result.reason) == (RunState.FAILED, Reason.EXCEPTION)
    assert sentence in result.detail
    assert sentence in lines[-1]
    assert call(warm, "give", value=1)[0].output == 1, "the host lives on"


def test_a_name_that_is_not_registered_is_not_imported(warm):
    result, _lines = call(warm, "no_such")
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.COMMAND_NOT_FOUND, False)


def test_what_a_callable_prints_is_its_own_output(warm):
    calls = Calls(warm, ("speak", {"text": "one"}), ("speak", {"text": "two"}), ("give", {})).start()
    calls.join()
    assert [texts(sink) for sink in calls.sinks] == [["one", "to stderr"], ["two", "to stderr"], []]


def test_a_flood_of_prints_is_capped_and_does_not_grow_the_host(warm, monkeypatch):
    acquire: Callable[[], hosts.Host] = warm.acquire
    acquired: list[hosts.Host] = []

    def noted() -> hosts.Host:
        acquired.append(acquire())
        return acquired[-1]

    monkeypatch.setattr(warm, "acquire", noted)
    result, lines = call(warm, "speak", text="x" * 100_000, times=300)
    assert result.state is RunState.SUCCEEDED and sum(map(len, lines)) < 1_100_000
    (host,) = acquired
    assert 0 < host.peak_bytes < hosts.MAX_BYTES // 2
    assert host in warm._idle


def test_os_exit_in_a_callable_fails_that_run_alone_and_no_call_is_made_twice(warm, tmp_path):
    first, dead, after = (
        Calls(
            warm,
            ("give", {"value": 1}),
            ("drop_dead", {"code": 9, "trace": f"{tmp_path}/trace"}),
            ("give", {"value": 2}),
        )
        .start()
        .join()
    )
    assert (first.output, after.output) == (1, 2)
    assert (dead.state, dead.reason, dead.exit_code) == (RunState.FAILED, Reason.EXIT_CODE, 9)
    assert (tmp_path / "trace").read_text() == "x"


def test_a_call_that_gets_stuck_does_not_hold_the_rest_of_its_pack(warm, tmp_path):
    calls = Calls(
        warm,
        ("give", {"value": 1}),
        ("wait", {"begun": f"{tmp_path}/begun"}),
        ("give", {"value": 2}),
        ("give", {"value": 3}),
    ).start()
    assert wait_until(lambda: {0, 2, 3} <= calls.results.keys(), 20)
    assert 1 not in calls.results
    calls.actives[1].control.end(Control.CANCEL)
    assert [result.state for result in calls.join()] == ["succeeded", "cancelled", "succeeded", "succeeded"]


def test_a_call_over_its_time_may_clean_up_and_the_host_lives_on(warm, tmp_path):
    before = call(warm, "pid")[0].output
    result, _lines = call(warm, "wait", begun=f"{tmp_path}/begun", cleaned=f"{tmp_path}/cleaned", timeout_seconds=0.5)
    assert (result.state, result.reason) == (RunState.TIMED_OUT, Reason.TIMEOUT)
    assert (tmp_path / "cleaned").exists()
    assert call(warm, "pid")[0].output == before


def test_a_call_stuck_in_c_code_is_killed_after_the_grace_and_alone(warm, tmp_path, settings):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 0.5
    calls = Calls(warm, ("stuck_in_c", {"begun": f"{tmp_path}/begun"}), ("give", {"value": 2})).start()
    assert wait_until((tmp_path / "begun").exists, 20)
    asked = time.monotonic()
    calls.actives[0].control.end(Control.CANCEL)
    stuck, other = calls.join()
    assert (stuck.state, other.output) == (RunState.CANCELLED, 2)
    assert time.monotonic() - asked < 15
    assert [step for step, _at in calls.actives[0].control.drain_steps()] == ["acknowledged", "term", "kill"]


def test_a_cancel_hits_the_call_that_is_meant_and_not_the_next_one(warm, tmp_path):
    for turn in range(10):
        begun = tmp_path / f"begun{turn}"
        calls = Calls(warm, ("wait", {"begun": str(begun), "seconds": 0.05}), *[("give", {"value": 1})] * 20).start()
        assert wait_until(begun.exists, 20)
        calls.actives[0].control.end(Control.CANCEL)
        first, *others = calls.join()
        assert first.state in (RunState.CANCELLED, RunState.SUCCEEDED)
        assert {result.state for result in others} == {RunState.SUCCEEDED}


def test_ending_a_call_that_prints_without_pause_tears_nothing(warm, tmp_path):
    for turn in range(5):
        begun = tmp_path / f"begun{turn}"
        calls = Calls(warm, ("print_for_ever", {"begun": str(begun)})).start()
        assert wait_until(begun.exists, 20)
        calls.actives[0].control.end(Control.CANCEL)
        assert calls.join()[0].state is RunState.CANCELLED
    assert call(warm, "give", value=1)[0].output == 1


def test_losing_a_run_ends_its_call_and_what_it_started_at_once(warm, tmp_path, settings):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 60.0
    begun = tmp_path / "begun"
    calls = Calls(warm, ("start_child", {"begun": str(begun)})).start()
    assert wait_until(lambda: begun.exists() and begun.read_text(), 20)
    calls.actives[0].control.end(Control.CANCEL)
    calls.actives[0].control.end(Control.LOST)
    calls.join()
    child = int(begun.read_text())
    assert wait_until(lambda: not is_alive(child))


def test_what_a_call_has_started_ends_with_it_and_its_host_goes_on(warm):
    left, _lines = call(warm, "leave_behind")
    assert len(left.output) == 2
    assert wait_until(lambda: not any(map(is_alive, left.output)))
    host = call(warm, "pid")[0].output
    call(warm, "leave_behind")
    assert call(warm, "pid")[0].output == host


def test_killing_a_call_that_cleans_up_for_long_ends_it_at_once_and_no_other(warm, tmp_path, settings):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 60.0
    calls = Calls(
        warm,
        ("give", {"value": 1}),
        ("stuck_in_c", {"begun": f"{tmp_path}/begun"}),
        ("give", {"value": 3}),
    ).start()
    assert wait_until((tmp_path / "begun").exists, 20)
    asked = time.monotonic()
    calls.actives[1].control.end(Control.KILL)
    first, killed, last = calls.join()
    assert (killed.state, killed.detail) == (RunState.CANCELLED, "Killed on request.")
    assert (first.output, last.output) == (1, 3)
    assert time.monotonic() - asked < 20


def test_what_a_call_raises_is_told_by_class_and_bases(warm):
    result, _lines = call(warm, "give", unknown=1)
    assert result.exceptions == ("TypeError", "Exception", "BaseException")
    assert call(warm, "give", value=1)[0].exceptions == ()
    refused, _lines = call(warm, "refuse")
    assert refused.exceptions[:2] == ("tests.workers_app.callables.Refused", "ValueError")


def test_an_idle_host_that_was_killed_costs_no_run(warm):
    pid = call(warm, "pid")[0].output
    (host,) = [host for host in warm._idle if host.pid == pid]
    host.kill()
    assert wait_until(host.worn_out)
    fresh, _lines = call(warm, "pid")
    assert fresh.state is RunState.SUCCEEDED and fresh.output != pid


def test_a_host_is_replaced_after_its_share_of_calls(warm, monkeypatch):
    before = call(warm, "pid")[0].output
    assert call(warm, "pid")[0].output == before
    monkeypatch.setattr(hosts, "MAX_CALLS", 1)
    last = call(warm, "pid")[0].output
    monkeypatch.undo()
    assert wait_until(lambda: not is_alive(last))
    assert call(warm, "pid")[0].output != last


def test_a_host_that_has_grown_too_large_is_replaced(warm, monkeypatch):
    before = call(warm, "pid")[0].output
    assert call(warm, "pid")[0].output == before
    monkeypatch.setattr(hosts, "MAX_BYTES", 1)
    grown = call(warm, "pid")[0].output
    monkeypatch.undo()
    assert grown == before, "it is replaced after its calls, not before them"
    assert wait_until(lambda: not is_alive(grown))
    fresh, _lines = call(warm, "pid")
    assert fresh.state is RunState.SUCCEEDED and fresh.output != grown


def test_a_host_that_does_not_start_fails_the_runs_and_leaves_nothing(monkeypatch):
    monkeypatch.setenv("SCHEDULER_CALLABLES", "tests.workers_app.no_such_module")
    pool = HostPool()
    with no_new_files():
        results = Calls(pool, ("give", {}), ("give", {})).start().join()
        assert {(result.state, result.reason) for result in results} == {(RunState.FAILED, Reason.INTERNAL)}


def test_without_free_files_a_host_does_not_start_and_none_is_left_open(monkeypatch):
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("workers_app.hosts.subprocess.Popen", full)
    with no_new_files(), pytest.raises(HostDied):
        HostPool().acquire()


def test_closing_the_pool_ends_its_hosts(monkeypatch):
    monkeypatch.setenv("SCHEDULER_CALLABLES", "")
    pool = HostPool()
    with no_new_files():
        pool.warm(2)
        pids = [host.pid for host in pool._idle]
        assert len(pids) == 2 and all(map(is_alive, pids))
        pool.close()
    assert not any(map(is_alive, pids))
    assert all(not Path(f"/proc/{pid}").exists() for pid in pids), "reaped as well"
