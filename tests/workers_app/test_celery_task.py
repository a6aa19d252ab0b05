"""The celery executor: tasks of an application that knows nothing of us, in a process of its own."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app.jobs import make_job, run
from workers_app.executors import celery_task
from workers_app.jobs import Control
from workers_app.limits import Limits
from workers_app.reaper import reaper

APPLICATION = """
import os, time
from celery import Celery
from celery.exceptions import Ignore, SoftTimeLimitExceeded

app = Celery("shop", broker="amqp://nobody.invalid//")
app.conf.update(broker_connection_timeout=1, broker_connection_max_retries=0)

@app.task(name="shop.add")
def add(a, b=1):
    print("adding")
    return {"sum": a + b, "where": __name__}

@app.task(name="shop.who", bind=True)
def who(self):
    return [self.request.id, self.request.retries]

@app.task(name="shop.fail")
def fail():
    raise LookupError("no such order")

@app.task(name="shop.again", bind=True, max_retries=2, default_retry_delay=7)
def again(self, countdown=None):
    try:
        raise ConnectionError("down")
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=countdown)

@app.task(name="shop.auto", autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=3)
def auto():
    raise OSError("busy")

@app.task(name="shop.hold")
def hold():
    held = b"x" * (400 << 20)
    time.sleep(20)

@app.task(name="shop.ignored", bind=True)
def ignored(self):
    raise Ignore()

@app.task(name="shop.large")
def large():
    return "x" * 70_000

@app.task(name="shop.when")
def when():
    import datetime
    return {"day": datetime.date(2026, 1, 2)}

@app.task(name="shop.seen")
def seen():
    return sorted(os.environ)

@app.task(name="shop.exits")
def exits():
    os._exit(3)

@app.task(name="shop.slow")
def slow():
    print("begun", flush=True)
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        print("cleaned up")
        raise
"""


@pytest.fixture
def shop(settings, tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION)
    # A module of the application may be called as one of ours or of Python's neighbours here.
    (tmp_path / "messages.py").write_text("raise RuntimeError('not asked for')")
    settings.SCHEDULER_CELERY_APP = "shop:app"
    settings.SCHEDULER_CELERY_DIR = str(tmp_path)


def execute(command: str, control: Control | None = None, **fields):
    return run(celery_task.execute, make_job(command, executor="celery", **fields), control)


def test_a_task_gets_its_arguments_and_what_it_returns_is_the_output(shop):
    result, lines = execute("shop.add", params={"args": [2], "kwargs": {"b": 40}})
    assert (result.state, result.exit_code, result.output) == (RunState.SUCCEEDED, 0, {"sum": 42, "where": "shop"})
    assert lines == ["adding"]


def test_a_task_is_the_same_one_in_every_attempt_and_knows_which_it_is(shop):
    assert execute("shop.who", run_id=7, attempt=3)[0].output == ["scheduler-run-7", 2]


def test_an_exception_fails_the_run_with_its_names_and_its_trace(shop):
    result, lines = execute("shop.fail")
    assert (result.state, result.reason, result.exit_code) == (RunState.FAILED, Reason.EXCEPTION, 1)
    assert result.detail == "LookupError: no such order"
    assert result.exceptions == ("LookupError", "Exception", "BaseException")
    assert lines[-1] == "LookupError: no such order"


@pytest.mark.parametrize(
    ("command", "params", "seconds"),
    [("shop.again", {}, 7), ("shop.again", {"kwargs": {"countdown": 90}}, 90), ("shop.auto", {}, 3)],
)
def test_a_task_that_retries_asks_us_and_not_the_broker_for_the_wait(shop, command, params, seconds):
    result, _lines = execute(command, params=params)
    assert (result.state, result.reason, result.asked_delay) == (RunState.FAILED, Reason.EXCEPTION, seconds)
    assert result.retryable and "OSError" in result.exceptions


def test_beyond_its_own_most_retries_a_task_fails_with_the_exception_itself(shop):
    result, _lines = execute("shop.again", attempt=3)
    assert (result.state, result.asked_delay) == (RunState.FAILED, None)
    assert result.detail == "ConnectionError: down"


def test_what_cannot_be_kept_of_a_value_is_said_and_the_run_has_succeeded(shop):
    result, lines = execute("shop.large")
    assert (result.state, result.output) == (RunState.SUCCEEDED, None)
    assert lines == ["The returned value is not kept as output: 70002 bytes of JSON."]
    assert execute("shop.when")[0].output == {"day": "2026-01-02"}
    assert execute("shop.ignored")[0].state == RunState.SUCCEEDED


def test_the_process_gets_only_the_variables_that_are_named(shop, settings, monkeypatch):
    monkeypatch.setenv("SHOP_DATABASE", "secret")
    monkeypatch.setenv("OTHER", "secret")
    assert "SHOP_DATABASE" not in execute("shop.seen")[0].output
    settings.SCHEDULER_CELERY_PASS = ["SHOP_DATABASE", "NOT_SET"]
    seen = execute("shop.seen")[0].output
    assert "SHOP_DATABASE" in seen and "OTHER" not in seen and "NOT_SET" not in seen and "DATABASE_URL" not in seen


def test_a_name_that_the_application_does_not_have_is_final(shop):
    result, _lines = execute("shop.missing")
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.COMMAND_NOT_FOUND, False)
    assert result.detail == "shop:app has no task shop.missing."


def test_a_worker_without_an_application_says_what_to_set(settings):
    result, _lines = execute("shop.add")
    assert (result.state, result.reason) == (RunState.FAILED, Reason.COMMAND_NOT_FOUND)
    assert "SCHEDULER_CELERY_APP" in result.detail


def test_an_application_that_cannot_be_imported_fails_with_its_trace(shop, settings):
    settings.SCHEDULER_CELERY_APP = "not_there:app"
    result, lines = execute("shop.add")
    assert (result.state, result.reason, result.exit_code) == (RunState.FAILED, Reason.EXIT_CODE, 1)
    assert "not_there" in lines[-1]


def test_a_task_that_ends_its_process_fails_with_the_exit_code(shop):
    result, _lines = execute("shop.exits")
    assert (result.state, result.reason, result.exit_code) == (RunState.FAILED, Reason.EXIT_CODE, 3)


def test_another_interpreter_can_execute_the_task(shop, settings, tmp_path):
    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\necho other\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    settings.SCHEDULER_CELERY_PYTHON = str(other)
    result, lines = execute("shop.add", params={"args": [1]})
    assert result.state == RunState.SUCCEEDED and lines == ["other", "adding"]


def test_a_time_limit_reaches_the_task_as_its_soft_limit(shop):
    result, lines = execute("shop.slow", timeout_seconds=3.0)
    assert result.state == RunState.TIMED_OUT
    assert "cleaned up" in lines


def test_a_task_that_holds_too_much_memory_is_killed_and_says_so(shop, monkeypatch):
    monkeypatch.setattr(reaper, "mark", f"celery-{os.getpid()}")
    result, _lines = run(
        celery_task.execute, make_job("shop.hold", executor="celery", limits=Limits(memory_mb=200)), Control()
    )
    assert (result.state, result.reason) == (RunState.FAILED, Reason.MEMORY_LIMIT)


def test_a_cancel_ends_the_task(shop):
    control = Control()
    timer = threading.Timer(2.0, control.end, ["cancel"])
    timer.start()
    result, _lines = execute("shop.slow", control)
    timer.join()
    assert (result.state, result.reason) == (RunState.CANCELLED, Reason.CANCEL_REQUESTED)
