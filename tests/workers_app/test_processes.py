"""Shell runs as real processes: their end, their limits, their environment, and that nothing of them is left."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app.jobs import is_alive, make_job, no_new_files, run, texts, wait_until
from workers_app import marks, processes, reaper, strays
from workers_app.executors import shell
from workers_app.jobs import Control


@pytest.fixture
def quick(settings):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 0.5


def cancelled_when(path: Path, control: Control, why: str = Control.CANCEL) -> threading.Thread:
    """Ends the run once it has written the file."""

    def wait() -> None:
        assert wait_until(path.exists)
        control.end(why)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("command", "state", "reason", "code"),
    [
        ("exit 0", RunState.SUCCEEDED, Reason.NONE, 0),
        ("exit 3", RunState.FAILED, Reason.EXIT_CODE, 3),
        ("no-such-command-anywhere", RunState.FAILED, Reason.COMMAND_NOT_FOUND, 127),
        ("kill -9 $$", RunState.FAILED, Reason.EXIT_CODE, -9),
    ],
)
def test_the_exit_code_decides(command, state, reason, code):
    result, _lines = run(shell.execute, make_job(command))
    assert (result.state, result.reason, result.exit_code) == (state, reason, code)


def test_exit_code_75_asks_to_be_tried_again_later_and_others_do_not():
    assert run(shell.execute, make_job("exit 75"))[0].asked_delay == 60
    assert run(shell.execute, make_job("exit 74"))[0].asked_delay is None


def test_a_command_too_long_for_the_system_fails_with_the_reason():
    result, _lines = run(shell.execute, make_job("true #" + "ü" * 90_000))
    assert result.state is RunState.FAILED and "too long" in result.detail


def test_a_run_over_its_time_gets_term_and_may_clean_up(quick):
    result, lines = run(shell.execute, make_job("trap 'echo bye; exit 0' TERM; sleep 60 & wait", timeout_seconds=1.5))
    assert (result.state, result.reason) == (RunState.TIMED_OUT, Reason.TIMEOUT)
    assert lines == ["Ending the process group: timeout.", "bye"]


def test_a_run_that_ignores_term_is_killed_after_the_grace(quick):
    started = time.monotonic()
    result, _lines = run(shell.execute, make_job("trap '' TERM; while :; do sleep 0.05; done", timeout_seconds=1.5))
    assert result.state is RunState.TIMED_OUT and result.exit_code == -signal.SIGKILL
    assert 2.0 <= time.monotonic() - started < 7


def test_a_cancel_ends_the_whole_group(quick, tmp_path):
    control = Control()
    pids = tmp_path / "pids"
    thread = cancelled_when(pids, control)
    command = f"sleep 60 & sleep 61 & echo $! > {pids}.new; jobs -p >> {pids}.new; mv {pids}.new {pids}; wait"
    result, _lines = run(shell.execute, make_job(command), control)
    thread.join()
    assert (result.state, result.reason) == (RunState.CANCELLED, Reason.CANCEL_REQUESTED)
    numbers = [int(number) for number in pids.read_text().split()]
    assert len(numbers) == 3
    assert wait_until(lambda: not any(map(is_alive, numbers)))


def test_losing_the_run_outranks_a_cancel_that_waits_out_its_grace(settings, tmp_path):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 60.0
    control = Control()
    begun = tmp_path / "begun"

    def lose() -> None:
        assert wait_until(begun.exists)
        control.end(Control.CANCEL)
        assert wait_until((tmp_path / "asked").exists)
        control.end(Control.LOST)

    thread = threading.Thread(target=lose)
    thread.start()
    command = f"trap 'touch {tmp_path}/asked' TERM; touch {begun}; while :; do sleep 0.05; done"
    started = time.monotonic()
    result, _lines = run(shell.execute, make_job(command), control)
    thread.join()
    assert result.exit_code == -signal.SIGKILL and time.monotonic() - started < 20


IGNORES_TERM = "trap '' TERM; touch {begun}; while :; do sleep 0.05; done"


def test_killing_a_run_that_ignores_term_waits_for_no_grace(settings, tmp_path):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 60.0
    control, begun = Control(), tmp_path / "begun"
    thread = cancelled_when(begun, control, Control.KILL)
    killed(control, IGNORES_TERM.format(begun=begun))
    thread.join()


def test_killing_a_run_ends_the_grace_that_a_cancel_has_given_it(settings, tmp_path):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 60.0
    control, begun, asked = Control(), tmp_path / "begun", tmp_path / "asked"
    threads = [cancelled_when(begun, control), cancelled_when(asked, control, Control.KILL)]
    killed(control, f"trap 'touch {asked}' TERM; touch {begun}; while :; do sleep 0.05; done")
    for thread in threads:
        thread.join()


def killed(control: Control, command: str) -> None:
    """Run the command, and see that it was killed long before its grace was over."""
    started = time.monotonic()
    result, lines = run(shell.execute, make_job(command), control)
    assert time.monotonic() - started < 20
    assert (result.state, result.exit_code) == (RunState.CANCELLED, -signal.SIGKILL)
    assert (result.detail, lines[-1]) == ("Killed on request.", "Killing the process group.")


def test_cancelling_a_run_that_ignores_term_does_wait_for_the_grace(settings, tmp_path):
    settings.SCHEDULER_KILL_GRACE_SECONDS = 1.5
    control, begun = Control(), tmp_path / "begun"
    thread = cancelled_when(begun, control)
    started = time.monotonic()
    result, _lines = run(shell.execute, make_job(IGNORES_TERM.format(begun=begun)), control)
    thread.join()
    assert (result.state, result.exit_code) == (RunState.CANCELLED, -signal.SIGKILL)
    assert time.monotonic() - started >= 1.5


def test_killing_a_run_ends_the_whole_group(tmp_path):
    control, pids = Control(), tmp_path / "pids"
    thread = cancelled_when(pids, control, Control.KILL)
    command = f"trap '' TERM; sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"
    run(shell.execute, make_job(command), control)
    thread.join()
    assert wait_until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ((Control.CANCEL, Control.KILL), Control.KILL),
        ((Control.KILL, Control.CANCEL), Control.KILL),
        ((Control.STOPPING, Control.CANCEL), Control.STOPPING),
        ((Control.CANCEL, Control.STOPPING), Control.CANCEL),
        ((Control.KILL, Control.LOST), Control.LOST),
        ((Control.LOST, Control.KILL), Control.LOST),
    ],
)
def test_what_is_more_urgent_takes_the_place_of_what_is_less(asked, why):
    control = Control()
    told: list[str | None] = []
    control.on_end(lambda: told.append(control.why))
    for one in asked:
        control.end(one)
    assert (control.why, told[-1]) == (why, why)


def test_a_grandchild_that_holds_the_pipe_neither_delays_the_end_nor_survives_it():
    started = time.monotonic()
    result, lines = run(shell.execute, make_job("sleep 60 & echo $!"))
    assert result.state is RunState.SUCCEEDED
    assert time.monotonic() - started < 10
    assert wait_until(lambda: not is_alive(int(lines[0])))


def test_what_a_grandchild_still_writes_at_the_end_is_read():
    _result, lines = run(shell.execute, make_job("(sleep 0.3; echo late) & echo early"))
    assert lines == ["early", "late"]


def steps_of(control: Control) -> list[str]:
    return [str(step) for step, _at in control.drain_steps()]


@pytest.mark.parametrize(
    ("command", "why", "steps"),
    [
        ("touch {begun}; exec sleep 60", Control.CANCEL, ["acknowledged", "term"]),
        (IGNORES_TERM, Control.CANCEL, ["acknowledged", "term", "kill"]),
        (IGNORES_TERM, Control.KILL, ["acknowledged", "kill"]),
        (IGNORES_TERM, Control.STOPPING, ["term", "kill"]),
    ],
)
def test_each_step_of_an_ending_is_noted(quick, tmp_path, command, why, steps):
    control, begun = Control(), tmp_path / "begun"
    thread = cancelled_when(begun, control, why)
    run(shell.execute, make_job(command.format(begun=begun)), control)
    thread.join()
    assert steps_of(control) == steps


def test_a_run_that_ends_by_itself_has_no_such_step(quick):
    ended, late = Control(), Control()
    run(shell.execute, make_job("true"), ended)
    run(shell.execute, make_job("sleep 60", timeout_seconds=0.3), late)
    assert (steps_of(ended), steps_of(late)) == ([], ["term"])


@pytest.fixture
def named(monkeypatch) -> str:
    """The worker has a name, which is on the processes of its runs."""
    name = f"worker-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setattr(reaper.reaper, "mark", name)
    return name


def leaving(left: Path, how: str) -> str:
    """A command that starts a process which leaves its group, says its number and waits for it to have begun."""
    inner = f"touch {left}; exec sleep 60"
    return f"setsid {how} sh -c '{inner}' >/dev/null 2>&1 & while [ ! -e {left} ]; do :; done; echo $!"


@pytest.mark.parametrize("how", ["", "env -i", "nohup env -i PATH=/usr/bin:/bin"])
def test_a_child_that_left_its_group_is_found_and_ended_also_without_its_environment(named, tmp_path, how):
    _result, lines = run(shell.execute, make_job(leaving(tmp_path / "left", how), run_id=7, attempt=2))
    other = subprocess.Popen(["sleep", "60"], env={"SCHEDULER_WORKER": "another", "SCHEDULER_RUN_ID": "7"})
    try:
        (pid,) = map(int, lines)
        assert is_alive(pid), "the group alone does not catch it"
        assert marks.marked(named) == {pid: (7, 2)}
        assert strays.end_strays(lambda: {(7, 2)}) == 0
        assert strays.end_strays(lambda: {(7, 1), (8, 2)}) == 1, "the next attempt is not this one"
        assert wait_until(lambda: not is_alive(pid))
        assert is_alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_without_the_limit_as_a_mark_the_environment_is_enough(named, tmp_path, monkeypatch):
    def refused(*_arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refused)
    _result, (pid,) = run(shell.execute, make_job(leaving(tmp_path / "left", ""), run_id=7, attempt=2))
    assert marks.marked(named) == {int(pid): (7, 2)}
    assert strays.end_strays(tuple) == 1


@pytest.mark.parametrize("why", [Control.CANCEL, Control.KILL])
def test_ending_a_run_reaches_what_has_left_its_group(named, quick, tmp_path, why):
    control, left, cleaned = Control(), tmp_path / "left", tmp_path / "cleaned"
    inner = f'trap "touch {cleaned}; exit" TERM; touch {left}; while :; do sleep 0.05; done'
    thread = cancelled_when(left, control, why)
    result, _lines = run(shell.execute, make_job(f"setsid env -i sh -c '{inner}' & sleep 60"), control)
    thread.join()
    assert result.state is RunState.CANCELLED
    assert wait_until(lambda: not marks.marked(named))
    assert wait_until(cleaned.exists, 2 if why == Control.CANCEL else 0.2) is (why == Control.CANCEL)


def test_a_run_reads_nothing_from_its_gate():
    _result, lines = run(shell.execute, make_job("readlink /proc/self/fd/0; cat; ls /proc/self/fd | wc -l"))
    assert lines == ["/dev/null", "4"]


def test_a_run_whose_worker_died_before_it_began_never_begins(tmp_path):
    """The pipe of its gate closes without a word."""
    command = ["/bin/sh", "-c", processes._GATE, "sh", "touch", f"{tmp_path}/begun"]
    assert subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode == 125
    assert not (tmp_path / "begun").exists()


def test_nothing_of_the_environment_of_the_worker_arrives(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    monkeypatch.setenv("LD_PRELOAD", "")
    _result, lines = run(shell.execute, make_job("env"))
    names = {line.partition("=")[0] for line in lines}
    assert not names & {"DATABASE_URL", "LD_PRELOAD", "DJANGO_SETTINGS_MODULE", "SCHEDULER_SECRET_KEY", "VIRTUAL_ENV"}
    assert {"PATH", "HOME", "LANG", "TMPDIR", "SCHEDULER_RUN_ID", "SCHEDULER_ATTEMPT", "SCHEDULER_TASK"} <= names


def test_an_account_without_an_entry_can_run(monkeypatch):
    def unknown(_number: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    result, lines = run(shell.execute, make_job("echo $HOME $USER"))
    assert result.state is RunState.SUCCEEDED and lines == [f"/ {os.geteuid()}"]


def test_parameters_arrive_as_variables_and_never_as_text_of_the_command():
    evil = "$(touch /tmp/never); `id`; '\"; exit 3; #"
    params = {"name": evil, "n": 3, "deep": {"a": [1]}, "flag": True}
    result, lines = run(
        shell.execute, make_job('printf "%s\\n" "$PARAM_name" $PARAM_n "$PARAM_deep" $PARAM_flag', params=params)
    )
    assert lines == [evil, "3", '{"a": [1]}', "true"]
    assert result.state is RunState.SUCCEEDED
    assert run(shell.execute, make_job("echo '{{ params.n }} %(n)s'", params=params))[1] == ["{{ params.n }} %(n)s"]


def test_the_folder_is_empty_at_the_start_and_gone_at_the_end():
    _result, lines = run(shell.execute, make_job("pwd; ls -A; mkdir -p a/b; touch a/b/c; echo $TMPDIR"))
    assert lines[0] == lines[1] and len(lines) == 2
    assert not Path(lines[0]).exists()


def test_the_folder_goes_also_when_the_run_is_ended(quick):
    _result, lines = run(shell.execute, make_job("pwd; exec sleep 60", timeout_seconds=1.5))
    assert lines[0].startswith("/") and not Path(lines[0]).exists()


def test_runs_leave_no_file_open(quick):
    run(shell.execute, make_job("true"))  # starts the reaper
    with no_new_files():
        for command in ("echo one", "exit 3", "sleep 60"):
            run(shell.execute, make_job(command, timeout_seconds=0.2))
        run(processes_of_nothing, make_job())


def processes_of_nothing(job, control, sink):
    return shell.run_command(["/no/such/program"], job, control, sink)


def test_a_program_that_does_not_exist_is_a_failed_run_with_the_reason():
    result, _lines = run(processes_of_nothing, make_job())
    assert (result.state, result.reason) == (RunState.FAILED, Reason.COMMAND_NOT_FOUND)


def test_a_reaper_that_cannot_start_does_not_leave_the_child_behind(monkeypatch, tmp_path):
    def no_memory(pid: int) -> None:
        (tmp_path / "pid").write_text(str(pid))
        raise OSError("no memory")

    monkeypatch.setattr(reaper.reaper, "add", no_memory)
    result, _lines = run(shell.execute, make_job("sleep 60"))
    assert (result.state, result.reason) == (RunState.FAILED, Reason.INTERNAL)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_the_number_of_a_child_is_not_free_until_the_reaper_has_forgotten_it(monkeypatch):
    """A number that was reaped may be a stranger's by the time a signal is sent to its group."""
    at_removal = []
    removed = reaper.reaper.remove

    def remove(pid: int) -> None:
        at_removal.append(Path(f"/proc/{pid}").exists())
        removed(pid)

    monkeypatch.setattr(reaper.reaper, "remove", remove)
    run(shell.execute, make_job("true"))
    assert at_removal == [True]


def test_output_is_passed_on_while_the_run_goes_on(tmp_path):
    from workers_app.output import OutputSink

    sink, control = OutputSink(1, 1), Control()
    job = make_job(f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo second")
    thread = threading.Thread(target=shell.execute, args=(job, control, sink))
    thread.start()
    seen: list[str] = []

    def look() -> bool:
        seen.extend(texts(sink))
        return bool(seen)

    assert wait_until(look)
    assert seen == ["first"]
    (tmp_path / "go").touch()
    thread.join()
    assert texts(sink) == ["second"]


def test_yes_is_ended_in_time_although_it_floods(quick):
    started = time.monotonic()
    result, lines = run(shell.execute, make_job("yes", timeout_seconds=1.0))
    assert result.state is RunState.TIMED_OUT and time.monotonic() - started < 10
    assert any("left out" in line for line in lines)
