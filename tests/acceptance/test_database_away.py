"""The database taken away for longer than a lease: every worker keeps its runs, and work goes on by itself."""

from __future__ import annotations

import time

import pytest

from tests import environment
from tests.acceptance.work import LONG, NOOP, RECOVERY_SECONDS, create_task, say, states, trigger
from tests.proxy import Proxy
from workers_app.marks import marked

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]


def test_an_outage_of_the_database_longer_than_the_lease_costs_no_run_and_no_worker(stack, tmp_path, capsys):
    away = 60 if LONG else 8
    lease = {"SCHEDULER_LEASE_SECONDS": "4", "SCHEDULER_HEARTBEAT_SECONDS": "1"}
    with Proxy(environment.database_url(stack.database), 5432) as proxy:
        through = {"DATABASE_URL": proxy.url} | lease
        children = [start(**through) for start in (stack.dispatcher, stack.dispatcher, stack.worker, stack.worker)]
        ends_meanwhile = create_task(stack, "ends meanwhile", "shell", until(tmp_path / "cut"))
        goes_on = create_task(stack, "goes on", "shell", until(tmp_path / "back"))
        noop = create_task(stack, "noop", "callable", NOOP)
        trigger(stack, (ends_meanwhile, 3), (goes_on, 3))
        stack.wait_for("six running runs", lambda: states(stack) == {"running": 6}, 20)
        proxy.cut()
        cut = time.monotonic()
        (tmp_path / "cut").touch()
        stack.wait_for("the end of three", lambda: len(list(tmp_path.glob("cut.*"))) == 3, away)
        trigger(stack, (noop, 50))
        time.sleep(max(cut + away - time.monotonic(), 0))
        assert states(stack) == {"running": 6, "waiting": 50}
        proxy.restore()
        back = time.monotonic()
        stack.wait_for("what was asked for and what ended", lambda: states(stack).get("succeeded") == 53, 30)
        seconds = time.monotonic() - back
        (tmp_path / "back").touch()
        stack.wait_for("all runs", lambda: states(stack) == {"succeeded": 56}, RECOVERY_SECONDS)
        assert stack.value("select count(*) from tasks_app_run where attempt <> 1") == 0
        assert stack.value("select count(*) from workers_app_worker where state <> 'online'") == 0
        assert all(child.process.poll() is None for child in children)
    say(capsys, f"database away for {away} s, lease of 4 s: 53 runs done {seconds:.1f} s after its return, none lost")


def test_a_worker_cut_off_alone_has_ended_its_attempt_before_the_next_one_begins(stack, tmp_path, capsys):
    """Its lease tells it, by its own clock, before anybody can know. That a run is given up for lost which nobody
    begins again, it hears over the broker, and ends all it has and itself."""
    lease = {"SCHEDULER_LEASE_SECONDS": "6", "SCHEDULER_HEARTBEAT_SECONDS": "1"}
    stack.dispatcher()
    told = tmp_path / "told"
    # Whoever holds the lock lives; it goes over to what the command starts, and ends with the last of them.
    command = (
        f"exec 9>{tmp_path}/lock; flock -n 9 || echo overlap >> {told}; echo $SCHEDULER_ATTEMPT >> {told};"
        " setsid env -i sleep 300 & sleep 300; exit 1"
    )
    again = create_task(stack, "again", "shell", command, retry_on_lost=True)
    once = create_task(stack, "once", "shell", "sleep 300")
    with Proxy(environment.database_url(stack.database), 5432) as proxy:
        cut_off = stack.worker(DATABASE_URL=proxy.url, **lease)
        (key,) = [str(key) for (key,) in stack.rows("select id from workers_app_worker")]
        trigger(stack, (again, 1), (once, 1))
        stack.wait_for("both runs", lambda: len(set(marked(key).values())) == 2 and told.exists(), 20)
        stack.worker(**lease)
        cut = time.monotonic()
        proxy.cut()
        stack.wait_for("the next attempt", lambda: told.read_text().split() != ["1"], RECOVERY_SECONDS)
        seconds = time.monotonic() - cut
        assert told.read_text().split() == ["1", "2"]
        assert stack.rows("select state, attempt from tasks_app_run order by id") == [("running", 2), ("lost", 1)]
        # I5, and nothing of its database has come back.
        stack.wait_for("the end of all that it had started", lambda: not marked(key), 10)
        stack.wait_for("the end of the worker", lambda: cut_off.process.poll() == 70, 10)
        assert told.read_text().split() == ["1", "2"]
    say(capsys, f"lease of 6 s: the next attempt began {seconds:.1f} s after the cut, and not beside the first")


def until(file: object) -> str:
    """A command that ends when the file is there, and leaves a file beside it for each run."""
    return f"while [ ! -e {file} ]; do sleep 0.1; done; touch {file}.$SCHEDULER_RUN_ID"
