"""The database itself fails: it restarts in the middle of everything, has no connection left, or no room on its disk.

It is a PostgreSQL of the test's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psycopg
import pytest

from scripts.private_servers import PrivateServers
from scripts.probes import POSTGRESQL, libpq_url, postgresql_answers
from tests import environment
from tests.acceptance.chaos.load import QUICK, schedule_work, wait_until_over
from tests.acceptance.work import LONG, RECOVERY_SECONDS, create_task, say, states, trigger
from tests.services import ProcessStack, create_template

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]

MOST_CONNECTIONS = 40
AWAY_SECONDS = 20 if LONG else 4
RUNS = 32
RESTARTS = 10 if LONG else 1


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateServers]:
    """A PostgreSQL for few clients, where the others look for theirs."""
    servers = PrivateServers(tmp_path_factory.mktemp("servers"))
    with pytest.MonkeyPatch.context() as patch, ExitStack() as undo:
        undo.callback(servers.stop)
        url = servers.start_postgresql(postgresql_answers, max_connections=str(MOST_CONNECTIONS))
        patch.setenv(POSTGRESQL.variable, url)
        create_template("chaos_template", tmp_path_factory.mktemp("template"))
        yield servers


@pytest.fixture
def own(servers, tmp_path) -> Iterator[ProcessStack]:
    """A stack on that server."""
    stack = ProcessStack(tmp_path, "chaos_template")
    try:
        yield stack
        assert '"violations": []' in stack.run("check_invariants", "--all", "--json")
    finally:
        stack.close()


def test_a_database_that_restarts_in_mid_transaction_loses_no_instant_and_executes_each_run_once(
    own, servers, history, capsys
):
    seconds = 8 * RESTARTS
    for _ in range(2):
        own.dispatcher(**QUICK)
        own.worker(**QUICK)
    schedule_work(own, history, seconds=seconds, tasks=4, beats=5)
    for _ in range(RESTARTS):
        began = time.monotonic()
        own.wait_for("open transactions", lambda: own.value(_AT_WORK) > 0, RECOVERY_SECONDS)
        servers.crash_postgresql(postgresql_answers)
        own.reconnect()
        time.sleep(max(began + 6 - time.monotonic(), 0))
    wait_until_over(own, seconds + RECOVERY_SECONDS)
    assert history.faults(own) == []
    assert set(states(own)) == {"succeeded"}
    started = [run for run, _attempt in history.starts()]
    assert len(started) == len(set(started)), "a run was executed twice"
    assert all(child.process.poll() is None for child in own.children)
    say(capsys, f"{RESTARTS} restarts at once of the database under load: {states(own)}, each executed once")


_AT_WORK = """select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
    and xact_start is not null"""


@pytest.mark.long
def test_a_server_without_a_connection_left_costs_no_run_and_work_goes_on_when_there_are_some(own, capsys):
    own.dispatcher()
    own.worker()
    task = create_task(own, "naps", "shell", "sleep 1")
    trigger(own, (task, RUNS))
    own.wait_for("runs that end", lambda: states(own).get("succeeded"), RECOVERY_SECONDS)
    with ExitStack() as taken:
        until = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < until:
            _end_all_others(own)
            # Whoever is first gets it; before the time is over it is all ours.
            with suppress(psycopg.OperationalError):
                while True:
                    taken.enter_context(psycopg.connect(libpq_url(POSTGRESQL.url())))
            time.sleep(0.05)
        assert own.value(_OF_US) == 0
        done = own.value("select count(*) from tasks_app_run where state = 'succeeded'")
    assert done < RUNS
    back = time.monotonic()
    own.wait_for("all runs", lambda: states(own) == {"succeeded": RUNS}, RECOVERY_SECONDS)
    seconds = time.monotonic() - back
    assert own.value("select count(*) from tasks_app_runevent where to_state = 'running'") == RUNS
    assert all(child.process.poll() is None for child in own.children)
    say(
        capsys,
        f"no connection for {AWAY_SECONDS} s: {RUNS - done} of {RUNS} runs done {seconds:.1f} s after there were some",
    )


def _end_all_others(stack: ProcessStack) -> None:
    stack.rows(
        """select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()"""
    )


_OF_US = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


@pytest.mark.long
def test_a_disk_that_is_full_costs_no_run_and_work_goes_on_when_there_is_room(own, capsys):
    own.dispatcher()
    own.worker()
    task = create_task(own, "naps", "shell", "echo from here to there; sleep 1")
    trigger(own, (task, RUNS))
    own.wait_for("runs that end", lambda: states(own).get("succeeded"), RECOVERY_SECONDS)
    # What the server says when it cannot make a table larger.
    own.rows("""create function no_room() returns trigger language plpgsql as $$ begin
        raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$""")
    for table in ("tasks_app_runevent", "tasks_app_runoutput"):
        own.rows(f"create trigger no_room before insert on {table} execute function no_room()")
    done = own.value("select count(*) from tasks_app_run where state = 'succeeded'")
    time.sleep(AWAY_SECONDS)
    assert own.value("select count(*) from tasks_app_run where state = 'succeeded'") == done < RUNS
    own.rows("drop function no_room cascade")
    back = time.monotonic()
    own.wait_for("all runs", lambda: states(own) == {"succeeded": RUNS}, RECOVERY_SECONDS)
    assert own.value("select count(*) from tasks_app_runevent where to_state = 'running'") == RUNS
    assert own.value("select count(distinct run_id) from tasks_app_runoutput") == RUNS
    assert all(child.process.poll() is None for child in own.children)
    say(
        capsys, f"no room for {AWAY_SECONDS} s: {RUNS - done} runs done {time.monotonic() - back:.1f} s after there was"
    )


def test_the_server_of_these_tests_is_not_the_one_of_the_others(servers):
    with psycopg.connect(libpq_url(environment.database_url("postgres"))) as connection:
        assert connection.execute("show max_connections").fetchall() == [(str(MOST_CONNECTIONS),)]
