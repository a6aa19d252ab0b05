"""The reaper outlives its worker and ends what the worker led."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers_app.jobs import is_alive, no_new_files, wait_until
from workers_app import reaper as module
from workers_app.folders import DEATH, LOCK, root
from workers_app.marks import MARK, marked
from workers_app.reaper import Reaper

WORKER = """
import subprocess, sys, time
from workers_app.folders import folder
from workers_app.marks import put_mark
from workers_app.reaper import Reaper
reaper = Reaper()
# As a worker does that warms its hosts before it registers.
early = subprocess.Popen(["sleep", "60"], start_new_session=True)
reaper.add(early.pid)
reaper.start(sys.argv[1], float(sys.argv[2]), folder.open(sys.argv[1]))
(folder.of_run(1) / "file").touch()
led = [subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True) for _ in range(2)]
for child in led:
    reaper.add(child.pid)
reaper.remove(led[1].pid)
gone = subprocess.Popen(["setsid", "sleep", "60"], env={"SCHEDULER_WORKER": sys.argv[1], "SCHEDULER_RUN_ID": "1"})
bare = subprocess.Popen(["setsid", "sleep", "60"], env={})
put_mark(bare.pid, sys.argv[1], (1, 1))
print(early.pid, *(child.pid for child in led), gone.pid, bare.pid, reaper._process.pid, flush=True)
while True:
    time.sleep(0.2)
    reaper.beat()
"""


class Worker:
    """A worker that leads one group, has let go of another, and whose run has a process outside of any."""

    def __init__(self, lease: float) -> None:
        home = Path(module.__file__).parent.parent
        name = f"worker-{os.getpid()}-{id(self)}"
        self.folder = root() / name
        command = [sys.executable, "-c", WORKER, name, str(lease)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=home)
        assert self.process.stdout is not None
        numbers = [int(number) for number in self.process.stdout.readline().split()]
        self._groups = numbers[:5]
        if len(numbers) != 6:
            self.close()
            raise AssertionError(f"the worker did not start; it said {numbers}")
        self.early, self.led, self.let_go, self.gone, self.bare, self.reaper = numbers

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if hasattr(self, "reaper"):
            wait_until(lambda: not is_alive(self.reaper))
        shutil.rmtree(self.folder, ignore_errors=True)
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    made = Worker(getattr(request, "param", 0.0))
    yield made
    made.close()


def test_kill_9_of_a_worker_ends_its_children_and_what_left_their_group_and_nothing_else(worker):
    assert all(map(is_alive, (worker.led, worker.let_go, worker.gone, worker.bare, worker.reaper)))
    assert [path.name for path in worker.folder.glob("run-*/*")] == ["file"]
    worker.process.kill()
    assert wait_until(lambda: not any(map(is_alive, (worker.early, worker.led, worker.gone, worker.bare))))
    assert wait_until(lambda: not is_alive(worker.reaper)), "the reaper goes when its work is done"
    assert sorted(path.name for path in worker.folder.iterdir()) == [DEATH, LOCK], "the folders of its runs are gone"
    told = json.loads((worker.folder / DEATH).read_text())
    assert (told["signal"], told["out_of_memory"], told["words"]) == (signal.SIGKILL, False, "")
    assert 5 < told["peak_mb"] < 200 and list(told["runs"]) == ["1"]
    assert is_alive(worker.let_go)


def ignores(pid: int, number: signal.Signals) -> bool:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")]
    return bool(int(line.split()[1], 16) & 1 << (number - 1))


def test_the_reaper_does_not_hear_signals_meant_for_the_worker(worker):
    meant_for_it = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    assert wait_until(lambda: all(ignores(worker.reaper, number) for number in meant_for_it)), "it has started"
    for number in meant_for_it:
        os.kill(worker.reaper, number)
    worker.process.kill()
    assert wait_until(lambda: not is_alive(worker.led))


@pytest.mark.parametrize("worker", [1.5], indirect=True)
def test_the_runs_of_a_frozen_worker_are_ended(worker):
    assert is_alive(worker.led)
    os.kill(worker.process.pid, signal.SIGSTOP)
    assert wait_until(lambda: not any(map(is_alive, (worker.led, worker.gone, worker.bare))))
    assert worker.folder.exists(), "it may go on"
    assert is_alive(worker.let_go) and is_alive(worker.reaper)


def test_a_worker_that_was_silent_for_too_long_knows_that_its_reaper_has_given_it_up():
    reaper = Reaper()
    reaper.start("", 0.2)
    seen = [reaper.gave_up]
    assert wait_until(lambda: reaper.gave_up)
    # To speak again does not bring the runs back.
    reaper.beat()
    seen.append(reaper.gave_up)
    reaper.start("", 0)
    seen.append(reaper.gave_up)
    reaper.close()
    assert seen == [False, True, False]


def test_a_reaper_that_died_is_started_again_and_knows_the_groups():
    reaper = Reaper()
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with no_new_files():
        reaper.add(child.pid)
        first = reaper._process
        assert first is not None
        first.kill()
        first.wait()
        first = None
        reaper.beat()
        assert reaper._process is not None and is_alive(reaper._process.pid)
        reaper.close()
    assert child.wait(10) == -signal.SIGKILL


def test_the_last_word_of_a_dying_worker_is_not_taken_for_another_number():
    """`+123` of `+12345` names a stranger."""
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    command = [sys.executable, "-S", "-E", "-m", "workers_app.reaper_main"]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(module.__file__).parent.parent)
    reaper.communicate(f"+{stranger.pid}".encode(), timeout=10)
    assert reaper.returncode == 0 and is_alive(stranger.pid)
    stranger.kill()
    stranger.wait()


def test_without_a_mark_no_process_is_looked_for():
    assert marked("") == {}
    assert MARK == "SCHEDULER_WORKER"


CRASHES = """
import ctypes, sys
from workers_app.folders import folder
from workers_app.reaper import Reaper
reaper = Reaper()
reaper.start("crashing", 0, folder.open("crashing"))
reaper.hear_crashes()
if sys.argv[1] == "leave":
    folder.close()
    reaper.close()
elif sys.argv[1] == "lose":
    reaper.close()
    import os
    os._exit(70)
else:
    ctypes.string_at(0)
"""


@pytest.mark.parametrize("how", ["crash", "leave", "lose"])
def test_a_crash_is_told_with_its_signal_and_place_and_an_orderly_end_leaves_nothing(tmp_path, how):
    place = Path(module.__file__).parent.parent
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", CRASHES, how]
    done = subprocess.run(command, cwd=place, env=environ, stderr=subprocess.DEVNULL, check=False)
    folder = tmp_path / f"scheduler-workers-{os.geteuid()}" / "crashing"
    if how == "crash":
        assert done.returncode == -signal.SIGSEGV
        assert wait_until((folder / DEATH).exists)
        assert wait_until((folder / DEATH).read_text)
        told = json.loads((folder / DEATH).read_text())
        assert told["signal"] == signal.SIGSEGV
        assert "Segmentation fault" in told["words"] and "string_at" in told["words"]
    else:
        assert done.returncode == (70 if how == "lose" else 0)
        assert wait_until(lambda: not folder.exists())
