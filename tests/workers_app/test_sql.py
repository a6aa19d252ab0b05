"""The sql executor: statements on named connections, on a file and on the PostgreSQL server of the tests."""

from __future__ import annotations

import sqlite3
import threading
import time

import psycopg
import pytest

from scripts.probes import POSTGRESQL, libpq_url
from tasks_app.states import Reason, RunState
from tests.workers_app.jobs import make_job, no_new_files, run, wait_until
from workers_app.executors import sql
from workers_app.jobs import Control


@pytest.fixture
def file(settings, tmp_path):
    path = tmp_path / "shop.sqlite3"
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("create table orders (id integer primary key, total text)")
    settings.SCHEDULER_SQL = {"default": f"sqlite:///{path}"}
    yield lambda statement: connection.execute(statement).fetchall()
    connection.close()


@pytest.fixture
def server(settings):
    """A schema of its own on the server of the tests, as the connection `shop`."""
    schema = f"sql_{threading.get_ident()}_{time.monotonic_ns()}"
    url = POSTGRESQL.url()
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        connection.execute(f"create schema {schema}")
        connection.execute(f"set search_path = {schema}")
        connection.execute("create table orders (id int primary key, total numeric(9,2))")
        mark = "&" if "?" in url else "?"
        settings.SCHEDULER_SQL = {"shop": f"{url}{mark}options=-csearch_path%3D{schema}"}
        yield lambda statement: connection.execute(statement).fetchall()
        connection.execute(f"drop schema {schema} cascade")


def execute(statement: str, control: Control | None = None, *, timeout_seconds: float = 30.0, **params):
    job = make_job(statement, executor="sql", params=params, timeout_seconds=timeout_seconds)
    return run(sql.execute, job, control)


# On a file


def test_rows_are_shown_as_csv_and_the_first_of_them_are_the_output(file):
    file("insert into orders values (1, '3.50'), (2, 'a,b'), (3, null)")
    with no_new_files():
        result, lines = execute("select * from orders where id > :least order by id", values={"least": 1}, max_rows=1)
    assert lines == ["id,total", '2,"a,b"', "3,"]
    assert (result.state, result.exit_code) == (RunState.SUCCEEDED, 0)
    assert result.output == {"row_count": 2, "columns": ["id", "total"], "rows": [[2, "a,b"]]}


def test_a_statement_without_rows_says_how_many_it_touched_and_is_kept(file):
    result, lines = execute("insert into orders values (1, 'x'), (2, 'y')")
    assert (result.state, result.output, lines) == (RunState.SUCCEEDED, {"row_count": 2}, ["Rows: 2."])
    assert file("select count(*) from orders") == [(2,)]


def test_values_never_become_part_of_the_statement(file):
    hostile = "x'); drop table orders; --"
    assert execute("insert into orders values (1, ?)", values=[hostile])[0].state == RunState.SUCCEEDED
    assert file("select total from orders") == [(hostile,)]


def test_a_statement_that_cannot_be_right_is_final(file):
    result, _lines = execute("select * from absent")
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.EXCEPTION, False)
    assert result.detail == "OperationalError: no such table: absent"
    assert result.exceptions[0] == "sqlite3.OperationalError"


def test_a_file_that_is_not_there_is_not_made(settings, tmp_path):
    settings.SCHEDULER_SQL = {"default": f"sqlite:///{tmp_path}/none.sqlite3"}
    result, _lines = execute("select 1")
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.CONNECTION, True)
    assert not (tmp_path / "none.sqlite3").exists()


def test_a_name_without_a_connection_says_what_to_set(file):
    result, _lines = execute("select 1", connection="reports")
    assert (result.state, result.reason) == (RunState.FAILED, Reason.CONNECTION)
    assert "SCHEDULER_SQL_REPORTS" in result.detail


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


def test_a_time_limit_ends_a_statement_on_a_file(file):
    result, _lines = execute(ENDLESS, timeout_seconds=0.3)
    assert (result.state, result.reason) == (RunState.TIMED_OUT, Reason.TIMEOUT)


def test_a_cancel_ends_a_statement_on_a_file(file):
    control = Control()
    timer = threading.Timer(0.3, control.end, ["cancel"])
    timer.start()
    assert execute(ENDLESS, control)[0].state == RunState.CANCELLED
    timer.join()
    assert [step for step, _at in control.drain_steps()] == ["acknowledged", "interrupted"]


# On PostgreSQL


@pytest.mark.postgresql
def test_every_kind_of_value_becomes_json(server):
    result, lines = execute(
        "select 1::bigint as n, 2.50::numeric as exact, 'NaN'::float8 as none, null as missing, true as yes,"
        " date '2026-01-02' as day, timestamptz '2026-01-02 03:04:05Z' as at, '\\xff00'::bytea as raw,"
        " array[1,2] as list, '{\"a\": [1.5]}'::jsonb as doc, '10.0.0.1'::inet as address, interval '1 day' as wait",
        connection="shop",
    )
    (row,) = result.output["rows"]
    assert row[:6] == [1, "2.50", "nan", None, True, "2026-01-02"]
    assert row[6].startswith("2026-01-02T") and row[7:11] == ["ff00", [1, 2], {"a": [1.5]}, "10.0.0.1"]
    assert lines[1].startswith("1,2.50,nan,,True,2026-01-02,")


@pytest.mark.postgresql
def test_rows_come_in_batches_however_many_there_are(server):
    result, lines = execute("select i, repeat('x', 100) from generate_series(1, 25000) i", connection="shop")
    assert (result.output["row_count"], len(result.output["rows"])) == (25_000, 20)
    assert any("left out" in line for line in lines)


@pytest.mark.postgresql
def test_rows_that_are_too_large_to_be_kept_are_left_out_of_the_output(server):
    result, _lines = execute("select repeat('x', 30000) from generate_series(1, 9)", connection="shop")
    assert (result.output["row_count"], len(result.output["rows"])) == (9, 2)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("statement", "output"),
    [
        ("insert into orders select i, i from generate_series(2, 4) i", {"row_count": 3}),
        ("update orders set total = 5 returning id", {"row_count": 1, "columns": ["id"], "rows": [[1]]}),
        (
            "with gone as (delete from orders returning id) select count(*) from gone",
            {"row_count": 1, "columns": ["count"], "rows": [[1]]},
        ),
        ("truncate orders", {"row_count": 0}),
        ("values (1), (2)", {"row_count": 2, "columns": ["column1"], "rows": [[1], [2]]}),
        ("select 100 % 7 as rest", {"row_count": 1, "columns": ["rest"], "rows": [[2]]}),
    ],
)
def test_each_kind_of_statement_is_executed_once_and_kept(server, statement, output):
    server("insert into orders values (1, 1) returning id")
    assert execute(statement, connection="shop")[0].output == output
    changed = {"insert": 4, "with": 0, "truncate": 0}.get(statement.split()[0], 1)
    assert server("select count(*) from orders") == [(changed,)]


@pytest.mark.postgresql
def test_of_a_statement_that_fails_nothing_is_kept(server):
    server("insert into orders values (3, 1) returning id")
    result, _lines = execute("insert into orders select i, i from generate_series(1, 5) i", connection="shop")
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.EXCEPTION, True)
    assert result.detail.startswith("UniqueViolation:")
    assert "psycopg.errors.UniqueViolation" in result.exceptions and "psycopg.Error" in result.exceptions
    assert server("select count(*) from orders") == [(1,)]


@pytest.mark.postgresql
def test_two_statements_in_one_are_refused(server):
    result, _lines = execute("select %(n)s; drop table orders", connection="shop", values={"n": 1})
    assert (result.state, result.retryable) == (RunState.FAILED, False)
    assert server("select count(*) from orders") == [(0,)]


@pytest.mark.postgresql
def test_what_runs_in_no_transaction_runs_with_autocommit(server):
    refused, _lines = execute("vacuum orders", connection="shop")
    assert refused.detail.startswith("ActiveSqlTransaction:")
    assert execute("vacuum orders", connection="shop", autocommit=True)[0].state == RunState.SUCCEEDED


@pytest.mark.postgresql
@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_what_is_ended_is_ended_on_the_server_too_and_not_kept(server, how):
    control = Control()
    name = "select count(*) from pg_stat_activity where application_name = 'scheduler run 1' and state = 'active'"
    answers = []
    statement = "with s as (insert into orders values (9, 9) returning id) select pg_sleep(60), id from s"
    seconds = 0.7 if how == "timeout" else 30.0
    thread = threading.Thread(
        target=lambda: answers.append(execute(statement, control, connection="shop", timeout_seconds=seconds)[0])
    )
    thread.start()
    assert wait_until(lambda: server(name) == [(1,)])
    if how == "cancel":
        control.end("cancel")
    thread.join(10)
    assert answers[0].state == {"timeout": RunState.TIMED_OUT, "cancel": RunState.CANCELLED}[how]
    # It ends there a moment after it has said so.
    assert wait_until(lambda: server(name) == [(0,)]) and server("select count(*) from orders") == [(0,)]


@pytest.mark.postgresql
def test_a_connection_that_breaks_is_no_fault_of_the_statement(server):
    statement = "select pg_terminate_backend(pg_backend_pid())"
    result, _lines = execute(statement, connection="shop")
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.CONNECTION, True)


def test_a_server_that_does_not_answer_is_said(settings):
    settings.SCHEDULER_SQL = {"shop": "postgres://user:hidden@127.0.0.1:1/shop"}
    result, _lines = execute("select 1", connection="shop")
    assert (result.state, result.reason) == (RunState.FAILED, Reason.CONNECTION)
    assert "hidden" not in result.detail
