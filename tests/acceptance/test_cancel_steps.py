"""The steps of a cancel, each with its time: of what has not started, of every way to execute, of what will not end."""

from __future__ import annotations

import socket

import pytest

from tests.acceptance.work import RECOVERY_SECONDS, run_code, say, states, trigger

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
GRACE = 2
CALLABLES = "tests.workers_app.callables"
CREATE = """
for name, (executor, command, params) in {commands!r}.items():
    tasks.create(actor, home | dict(name=name, executor=executor, command=command, params=params), now=now)
"""
CANCEL = """
from tasks_app.models import Run
for run in Run.objects.filter(pk__in={ids!r}).select_related("task"):
    runs.cancel(actor, run, now=timezone.now())
"""
# How each is to end; between TERM and KILL lies the grace.
ENDS = {
    "queued": ["asked", "ended"],
    "shell": ["asked", "acknowledged", "term", "ended"],
    "deaf shell": ["asked", "acknowledged", "term", "kill", "ended"],
    "python": ["asked", "acknowledged", "term", "ended"],
    "deaf python": ["asked", "acknowledged", "term", "kill", "ended"],
    "http": ["asked", "acknowledged", "closed", "ended"],
    "callable": ["asked", "acknowledged", "term", "ended"],
    "callable in C": ["asked", "acknowledged", "term", "kill", "ended"],
}
SCRIPT = "import signal, sys, time\nif len(sys.argv) > 1: signal.signal(15, signal.SIG_IGN)\nprint('on', flush=True)\n"


def test_each_step_of_a_cancel_is_told_with_its_time_however_the_run_is_executed(stack, tmp_path, capsys):
    (tmp_path / "wait.py").write_text(SCRIPT + "time.sleep(300)\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        commands = {
            "queued": ("shell", f"touch '{tmp_path}/never'", {}),
            "shell": ("shell", "echo on; sleep 300", {}),
            "deaf shell": ("shell", "trap '' TERM; echo on; sleep 300; sleep 300", {}),
            "python": ("python", "wait.py", {}),
            "deaf python": ("python", "wait.py deaf", {}),
            "http": ("http", f"http://127.0.0.1:{silent.getsockname()[1]}/", {}),
            "callable": ("callable", f"{CALLABLES}.wait", {"begun": f"{tmp_path}/begun", "seconds": 300}),
            "callable in C": ("callable", f"{CALLABLES}.stuck_in_c", {"begun": f"{tmp_path}/begun in C"}),
        }
        stack.environ["SCHEDULER_CALLABLES"] = CALLABLES
        run_code(stack, CREATE.format(commands=commands))
        tasks = dict(stack.rows("select name, id from tasks_app_task"))
        queued = tasks.pop("queued")
        stack.dispatcher()
        # No worker yet: what is released stays queued.
        trigger(stack, (queued, 1))
        stack.wait_for("the queued run", lambda: states(stack) == {"queued": 1}, RECOVERY_SECONDS)
        run_code(stack, CANCEL.format(ids=_ids(stack, [queued])))
        stack.worker(
            concurrency=8,
            SCHEDULER_KILL_GRACE_SECONDS=str(GRACE),
            SCHEDULER_HTTP_ALLOW="127.0.0.0/8",
            SCHEDULER_SCRIPTS_DIR=str(tmp_path),
        )
        trigger(stack, *((task, 1) for task in tasks.values()))
        shown = "select count(*) from tasks_app_runoutput"
        stack.wait_for("four that have begun", lambda: stack.value(shown) == 4, RECOVERY_SECONDS)
        stack.wait_for("both calls", lambda: len(list(tmp_path.glob("begun*"))) == 2, RECOVERY_SECONDS)
        silent.settimeout(RECOVERY_SECONDS)
        connection, _address = silent.accept()
        run_code(stack, CANCEL.format(ids=_ids(stack, list(tasks.values()))))
        stack.wait_for("all ends", lambda: states(stack) == {"cancelled": 8}, RECOVERY_SECONDS)
        connection.close()
    client = stack.web()
    found = {run["task_name"]: run for run in client.get("/api/runs").json()["results"]}
    assert {name: [step["step"] for step in run["cancel_steps"]] for name, run in found.items()} == ENDS
    assert found["queued"]["started_at"] is None and not (tmp_path / "never").exists()
    for name, run in found.items():
        after = {step["step"]: step["after"] for step in run["cancel_steps"]}
        assert sorted(after.values()) == list(after.values())
        if "kill" in after:
            assert GRACE - 0.1 <= after["kill"] - after["term"] < GRACE + 5
        say(capsys, f"{name}: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in after.items()))


def _ids(stack, tasks: list[int]) -> list[int]:
    return [id for (id,) in stack.rows("select id from tasks_app_run where task_id = any(%s)", (tasks,))]
