"""Containers as Kubernetes Jobs, against an API of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app.fake_kubernetes import Cluster
from tests.workers_app.jobs import make_job, run, wait_until
from workers_app import kubernetes_job
from workers_app.executors import container
from workers_app.jobs import Control, Result
from workers_app.kubernetes_api import MAX_HELD, Piece, pieces

NAME = "scheduler-7-1"


@pytest.fixture
def cluster(settings, monkeypatch):
    monkeypatch.setattr(kubernetes_job, "POLL_SECONDS", 0.05)
    settings.SCHEDULER_CONTAINER_ENGINE = "kubernetes"
    settings.SCHEDULER_KUBERNETES_NAMESPACE = "jobs"
    settings.SCHEDULER_KUBERNETES_TOKEN = "token-of-the-test"
    made = Cluster()
    settings.SCHEDULER_KUBERNETES_URL = made.url
    yield made
    made.close()


def execute(command: str = "box:1", control: Control | None = None, **fields: Any) -> tuple[Result, list[str]]:
    return run(container.execute, make_job(command, executor="container", **{"run_id": 7, **fields}), control)


def begin(**fields: Any) -> Callable[[], tuple[Result, list[str]]]:
    """Start the run in a thread; what is answered waits for its end."""
    answers: list[tuple[Result, list[str]]] = []
    thread = threading.Thread(target=lambda: answers.append(execute(**fields)))
    thread.start()

    def ended() -> tuple[Result, list[str]]:
        thread.join(20)
        return answers[0]

    return ended


def test_a_job_is_made_followed_and_removed(cluster):
    params = {"memory": "512m", "cpus": 0.5, "env": {"WORD": "hidden"}, "entrypoint": ["/bin/load", "--fast"]}
    ended = begin(command="shop/load:2 --day 'two words'", params=params, timeout_seconds=60.0)
    assert wait_until(lambda: NAME in cluster.states)
    spec = cluster.jobs[NAME]["spec"]
    (made,) = spec["template"]["spec"]["containers"]
    assert (made["image"], made["command"], made["args"]) == (
        "shop/load:2",
        ["/bin/load"],
        ["--fast", "--day", "two words"],
    )
    assert made["resources"]["limits"] == {"memory": str(512 * 1024**2), "cpu": "0.5"}
    assert {"name": "WORD", "value": "hidden"} in made["env"]
    assert spec["backoffLimit"] == 0 and spec["activeDeadlineSeconds"] >= 60
    cluster.write(NAME, "2026-01-02T03:04:05.000000001Z", "begun")
    cluster.write(NAME, "2026-01-02T03:04:06.000000001Z", '{"rows": 3}')
    cluster.end(NAME, 0)
    result, lines = ended()
    assert (result.state, result.output, lines) == (RunState.SUCCEEDED, {"rows": 3}, ["begun", '{"rows": 3}'])
    assert cluster.jobs == {}
    assert {token for *_rest, token in cluster.asked} == {"Bearer token-of-the-test"}
    assert all("/namespaces/jobs/" in path for _method, path, _body, _token in cluster.asked)


def test_a_log_that_breaks_off_goes_on_where_it_broke(cluster):
    cluster.break_after = 3
    for n, at in enumerate(("05.1", "05.2", "05.2", "05.2", "06.1")):
        cluster.write(NAME, f"2026-01-02T03:04:{at}Z", f"line {n}")
    ended = begin()
    assert wait_until(lambda: cluster.break_after is None and NAME in cluster.states)
    assert wait_until(lambda: sum("/log?" in path for _m, path, _b, _t in cluster.asked) == 2)
    cluster.end(NAME, 0)
    assert ended()[1] == [f"line {n}" for n in range(5)]


@pytest.mark.parametrize(("code", "why", "detail"), [(3, "Error", "Exit code 3."), (137, "OOMKilled", "(OOMKilled)")])
def test_the_exit_code_of_the_container_is_that_of_the_run(cluster, code, why, detail):
    ended = begin()
    assert wait_until(lambda: NAME in cluster.states)
    cluster.end(NAME, code, why)
    result, _lines = ended()
    assert (result.state, result.reason, result.exit_code) == (RunState.FAILED, Reason.EXIT_CODE, code)
    assert detail in result.detail


def test_an_image_that_cannot_be_had_is_waited_for_and_then_given_up(cluster, monkeypatch):
    monkeypatch.setattr(kubernetes_job, "IMAGE_SECONDS", 0.3)
    cluster.first_state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    result, lines = execute()
    assert (result.state, result.reason) == (RunState.FAILED, Reason.COMMAND_NOT_FOUND)
    assert "no such image" in result.detail and len(lines) == 1 and cluster.jobs == {}


def test_a_container_that_can_never_start_is_final(cluster):
    cluster.first_state = {"waiting": {"reason": "InvalidImageName"}}
    assert execute()[0].retryable is False


@pytest.mark.parametrize(("why", "grace", "step"), [(Control.CANCEL, 5, "term"), (Control.KILL, 0, "kill")])
def test_a_cancel_removes_the_job_with_its_grace_and_waits_for_its_end(cluster, why, grace, step):
    control = Control()
    ended = begin(control=control)
    assert wait_until(lambda: NAME in cluster.states)
    control.end(why)
    assert ended()[0].state == RunState.CANCELLED
    assert cluster.jobs == {} and cluster.states == {}
    deleted = [body for method, path, body, _token in cluster.asked if method == "DELETE" and "/pods/" in path]
    assert deleted == [{"gracePeriodSeconds": grace}]
    assert [taken for taken, _at in control.drain_steps()] == ["acknowledged", step]


def test_a_time_limit_removes_the_job(cluster):
    result, _lines = execute(timeout_seconds=0.3)
    assert (result.state, result.reason) == (RunState.TIMED_OUT, Reason.TIMEOUT)
    assert cluster.jobs == {} and cluster.states == {}


def test_what_an_earlier_attempt_left_ends_before_the_next_begins(cluster):
    for name, run_name in ((NAME, "scheduler-7"), ("scheduler-70-1", "scheduler-70")):
        cluster.jobs[name] = {"metadata": {"name": name, "labels": {kubernetes_job.RUN_LABEL: run_name}}}
        cluster.states[name] = {"running": {}}
    ended = begin(attempt=2)
    assert wait_until(lambda: "scheduler-7-2" in cluster.states)
    assert NAME not in cluster.states and "scheduler-70-1" in cluster.states
    cluster.end("scheduler-7-2", 0)
    assert ended()[0].state == RunState.SUCCEEDED


def test_an_api_that_is_away_for_a_moment_ends_no_run(cluster):
    ended = begin()
    assert wait_until(lambda: NAME in cluster.states)
    cluster.away = True
    before = len(cluster.asked)
    assert wait_until(lambda: len(cluster.asked) > before + 2)
    cluster.away = False
    cluster.end(NAME, 0)
    assert ended()[0].state == RunState.SUCCEEDED


def test_a_pod_that_somebody_takes_away_ends_the_run_at_once(cluster):
    ended = begin()
    assert wait_until(lambda: any("/log?" in path for _m, path, _b, _t in cluster.asked))
    del cluster.states[NAME]
    result, _lines = ended()
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.INTERNAL, True)
    assert "The pod is gone" in result.detail


def test_what_the_api_says_against_the_job_is_told(cluster):
    cluster.refusal = (403, "jobs.batch is forbidden")
    result, _lines = execute()
    assert (result.state, result.reason) == (RunState.FAILED, Reason.CONNECTION)
    assert "jobs.batch is forbidden" in result.detail


def test_without_a_cluster_the_run_says_what_to_set(settings):
    settings.SCHEDULER_CONTAINER_ENGINE = "kubernetes"
    assert "SCHEDULER_KUBERNETES_URL" in execute()[0].detail


def test_a_line_without_an_end_comes_in_parts_and_one_cut_anywhere_whole():
    assert list(pieces([b"t1 on", b"e\nt2 two\nt3 en", b"d"])) == [
        Piece("t1", b"one\n"),
        Piece("t2", b"two\n"),
        Piece("t3", b"end"),
    ]
    long = list(pieces([b"t1 ", b"x" * MAX_HELD, b"y y\n", b"t2 z\n"]))
    assert long == [Piece("t1", b"x" * MAX_HELD), Piece("", b"y y\n"), Piece("t2", b"z\n")]
