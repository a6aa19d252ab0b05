"""Secrets on their way to runs: who gets which, how each executor hands them on, and that nothing shows them."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import sys
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from access_app.masking import known, masks_of
from dispatcher_app.explain import explain
from tasks_app import run_output
from tasks_app.models import Project, Run, RunEvent, Task
from tasks_app.services import secrets
from tasks_app.states import Reason, RunState
from tests.tasks_app.making import NOW, enqueue, later, make_task, plan
from tests.workers_app import agents as playing
from tests.workers_app.fake_kubernetes import Cluster
from tests.workers_app.jobs import make_job, run, wait_until
from tests.workers_app.test_docker_command import engine as engine  # noqa: PLC0414  (a fixture)
from tests.workers_app.test_http import Server
from workers_app import kubernetes_job
from workers_app.execution import Execution
from workers_app.executors import callable as callable_executor
from workers_app.executors import celery_task, container, http, python, shell, sql
from workers_app.jobs import Job

VALUE = "correct/horse+battery staple 42"
DIGEST = hashlib.sha256(VALUE.encode()).hexdigest()
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\n-----END KEY-----\n"


def make_secret(name: str = "API_TOKEN", value: str = VALUE, **fields: Any) -> Any:
    given = {"project": Project.objects.get(name="default"), "name": name, "value": value, **fields}
    return secrets.create(system_actor(), given, now=NOW)


def job_with(command: str, value: str = VALUE, **fields: Any) -> Job:
    return make_job(command, secrets={"API_TOKEN": value}, masks=masks_of([value]), **fields)


def worker() -> Execution:
    return Execution(worker_id=uuid4(), actor="worker test", ring=lambda _batch: None)


def executed(*ids: int) -> list[Run]:
    enqueue(*ids)
    made = worker()
    try:
        made.execute([(id, 1) for id in ids], "default")
        for id in ids:
            if Run.objects.get(pk=id).state == RunState.QUEUED:
                made.execute([(id, 1)], "default")
    finally:
        made.close()
    return list(Run.objects.filter(pk__in=ids).order_by("pk"))


def lines_of(run: Run) -> list[str]:
    return [line["text"] for line in run_output.log_lines(run, offset=0, limit=1000)[0]]


# --- who gets which --------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_run_gets_its_secret_and_shows_it_nowhere():
    make_secret()
    command = (
        'printf %s "$TOKEN" | sha256sum | cut -c1-64; echo "plain $TOKEN"; printf %s "$TOKEN" | base64; '
        'printf "two wri"; printf %s "$TOKEN" | cut -c1-9 | tr -d "\\n"; sleep 0.05; printf %s "$TOKEN" | cut -c10-; '
        'echo "error $TOKEN" >&2; echo "{\\"token\\": \\"$TOKEN\\", \\"rows\\": 3}"'
    )
    task = make_task(executor="shell", command=command, secrets={"TOKEN": "API_TOKEN"})
    (ended,) = executed(*plan(task))
    assert (ended.state, ended.output) == (RunState.SUCCEEDED, {"token": "***", "rows": 3})
    out = [line for line in lines_of(ended) if "error" not in line]
    assert out == [DIGEST, "plain ***", "***", "two wri***", '{"token": "***", "rows": 3}']
    assert "error ***" in lines_of(ended)


@pytest.mark.django_db(transaction=True)
def test_a_task_without_secrets_gets_none_of_its_project_and_prints_what_it_likes():
    make_secret()
    (ended,) = executed(*plan(make_task(executor="shell", command=f'echo "${{API_TOKEN-unset}}"; echo "{VALUE}"')))
    assert lines_of(ended) == ["unset", VALUE]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda secret, task: secret.delete(), "There is no secret API_TOKEN in the project"),
        (
            lambda secret, task: secrets.update(system_actor(), secret, {"tasks": []}, now=NOW),
            "The secret API_TOKEN is not granted to this task",
        ),
        (
            lambda secret, task: type(secret).objects.update(sealed="00000000:gAAAAA"),
            "The secret API_TOKEN cannot be read",
        ),
        (
            lambda secret, task: Task.objects.update(project=Project.objects.create(name="elsewhere")),
            "There is no secret API_TOKEN in the project",
        ),
    ],
)
def test_a_run_whose_secret_it_cannot_have_fails_at_once_and_says_why(spoil, said):
    secret = make_secret()
    task = make_task(executor="shell", command="echo ran", secrets={"API_TOKEN": "API_TOKEN"}, retry_count=3)
    (id,) = plan(task)
    before = explain(Run.objects.get(pk=id), later(minutes=1))
    assert {gate.name: gate.open for gate in before.gates}["secrets"] is True
    spoil(secret, task)
    gates = {gate.name: gate for gate in explain(Run.objects.get(pk=id), later(minutes=1)).gates}
    assert not gates["secrets"].open and said in gates["secrets"].detail
    assert gates["turn"].open, "nothing keeps it back all the same"
    (ended,) = executed(id)
    assert (ended.state, ended.reason, ended.attempt) == (RunState.FAILED, Reason.SECRET_UNAVAILABLE, 1)
    assert said in ended.reason_detail and "Not tried again" in ended.reason_detail
    assert lines_of(ended) == []


@pytest.mark.django_db
def test_the_gate_is_there_only_for_runs_that_need_secrets():
    (id,) = plan(make_task())
    assert "secrets" not in {gate.name for gate in explain(Run.objects.get(pk=id), NOW).gates}


@pytest.mark.django_db(transaction=True)
def test_a_secret_granted_to_named_tasks_reaches_them_alone():
    task, other = (make_task(executor="shell", command="true", secrets={"API_TOKEN": "API_TOKEN"}) for _ in range(2))
    make_secret(tasks=[task])
    first, second = executed(*plan(task), *plan(other))
    assert (first.state, second.reason) == (RunState.SUCCEEDED, Reason.SECRET_UNAVAILABLE)


@pytest.mark.django_db(transaction=True)
def test_an_attempt_gets_the_value_that_holds_when_it_starts():
    secret = make_secret()
    task = make_task(executor="shell", command='printf %s "$API_TOKEN" | sha256sum', secrets={"API_TOKEN": "API_TOKEN"})
    (id,) = plan(task)
    secrets.update(system_actor(), secret, {"value": "a later value"}, now=NOW)
    (ended,) = executed(id)
    assert lines_of(ended)[0].startswith(hashlib.sha256(b"a later value").hexdigest())


@pytest.mark.django_db(transaction=True)
def test_a_pack_costs_one_query_whatever_its_size_and_nothing_where_there_are_no_secrets():
    make_secret()
    made = worker()

    def queries(number: int, **fields: Any) -> list[str]:
        ids = plan(make_task(executor="shell", command="true", **fields), number)
        enqueue(*ids)
        with CaptureQueriesContext(
            connection,
        ) as caught:
            # One claim after another, as a pack of what is not known to be short begins with its first run.
            made._claim([[(id, 1)] for id in ids])
        return [query["sql"] for query in caught.captured_queries]

    try:
        assert not any("access_app_secret" in sql for sql in queries(3))
        for number in (1, 5):
            found = [sql for sql in queries(number, secrets={"API_TOKEN": "API_TOKEN"}) if "access_app_secret" in sql]
            assert len(found) == 1
        assert len({id(active.job.masks) for active in made.active.values() if active.job.masks}) == 1
    finally:
        for active in made.active.values():
            if active.job.masks is not None:
                known.discard(active.job.masks)
        made.close()


@pytest.mark.django_db(transaction=True)
def test_a_failure_that_quotes_the_secret_is_masked_in_the_run_and_its_history(caplog):
    make_secret(value="workers_app.nowhere.token")
    task = make_task(
        executor="callable", command="workers_app.samples.fail", params={"message": "refused"},
        secrets={"API_TOKEN": "API_TOKEN"},
    )  # fmt: skip
    (ended,) = executed(*plan(task, params={"message": "refused: workers_app.nowhere.token"}))
    assert ended.state == RunState.FAILED and "refused: ***" in ended.reason_detail
    assert all("nowhere" not in event.detail for event in RunEvent.objects.filter(run=ended))
    assert all("nowhere" not in line for line in lines_of(ended))


@pytest.mark.django_db(transaction=True)
def test_what_a_worker_logs_of_a_run_is_masked_while_it_is_under_way(monkeypatch):
    make_secret()
    logged: list[str] = []

    def execute(job: Job, _control: Any, _sink: Any) -> Any:
        logged.append(known.text(f"connecting with {job.secrets['API_TOKEN']}"))
        raise RuntimeError(f"bad token {job.secrets['API_TOKEN']}")

    monkeypatch.setattr("workers_app.execution.implementation", lambda _name: execute)
    (ended,) = executed(*plan(make_task(executor="shell", command="true", secrets={"API_TOKEN": "API_TOKEN"})))
    assert logged == ["connecting with ***"]
    assert ended.reason_detail.startswith("RuntimeError: bad token ***")
    assert known.text(VALUE) == VALUE, "when it is over nothing is hidden for it"


def test_the_log_of_a_process_goes_through_the_masks():
    masks = masks_of([VALUE])
    assert masks is not None
    formatter = logging.getLogger().handlers[0].formatter
    assert formatter is not None
    try:
        raise ValueError(VALUE)
    except ValueError:
        record = logging.LogRecord("test", logging.ERROR, __file__, 1, "token %s", (VALUE,), sys.exc_info())
    known.add(masks)
    try:
        text = formatter.format(record)
    finally:
        known.discard(masks)
    assert "token ***" in text and "ValueError: ***" in text and VALUE not in text


# --- executors -------------------------------------------------------------------------------------------------------


def test_a_script_reads_it_in_its_environment(settings, tmp_path):
    settings.SCHEDULER_SCRIPTS_DIR = tmp_path
    (tmp_path / "s.py").write_text(
        "import hashlib, os, json, sys, urllib.parse\n"
        "token = os.environ['API_TOKEN']\n"
        "print(hashlib.sha256(token.encode()).hexdigest())\n"
        "print('https://x.example/?token=' + urllib.parse.quote_plus(token))\n"
        "sys.stdout.write('half ' + token[:9]); sys.stdout.flush()\n"
        "sys.stdout.write(token[9:] + '\\n')\n"
        "print(json.dumps({'token': token, token: [token]}))\n"
    )
    result, lines = run(python.execute, job_with("s.py", executor="python"))
    assert result.output == {"token": "***", "***": ["***"]}
    assert lines[:3] == [DIGEST, "https://x.example/?token=***", "half ***"]


def test_the_command_line_of_no_process_shows_it(tmp_path):
    command = f"cat /proc/$$/cmdline /proc/$PPID/cmdline > {tmp_path}/seen; ps -ef >> {tmp_path}/seen 2>/dev/null; true"
    result, _lines = run(shell.execute, job_with(command))
    seen = (tmp_path / "seen").read_text(errors="replace")
    assert result.state == RunState.SUCCEEDED and "sh" in seen and VALUE not in seen


def test_a_callable_has_it_for_its_own_call_alone(monkeypatch):
    monkeypatch.setenv("SCHEDULER_CALLABLES", "tests.workers_app.callables")
    from workers_app import hosts

    pool = hosts.HostPool()
    monkeypatch.setattr(hosts, "pool", pool)
    try:
        command = "tests.workers_app.callables.variable"
        params = {"name": "API_TOKEN"}
        given, lines = run(callable_executor.execute, job_with(command, executor="callable", params=params))
        after, _lines = run(callable_executor.execute, make_job(command, executor="callable", params=params))
    finally:
        pool.close()
    assert given.output == {"sha256": DIGEST, "value": VALUE}, "the result is masked where it is recorded"
    assert lines == ["***"]
    assert after.output == {"sha256": None, "value": None}


def test_a_celery_task_reads_it_in_its_environment(settings, tmp_path):
    (tmp_path / "shop.py").write_text(
        "import hashlib, os\nfrom celery import Celery\napp = Celery('shop')\n"
        "@app.task(name='shop.digest')\ndef digest():\n"
        "    print(os.environ['API_TOKEN'])\n    return hashlib.sha256(os.environ['API_TOKEN'].encode()).hexdigest()\n"
    )
    settings.SCHEDULER_CELERY_APP, settings.SCHEDULER_CELERY_DIR = "shop", str(tmp_path)
    result, lines = run(celery_task.execute, job_with("shop.digest", executor="celery"))
    assert (result.output, lines) == (DIGEST, ["***"])


@pytest.mark.parametrize("value", [VALUE, PEM, "x" * 40_000, "carriage return\r"])
def test_a_container_gets_it_and_no_command_line_shows_it(engine, value):
    digest = hashlib.sha256(value.encode()).hexdigest()
    command = 'box:1 sh -c \'printf %s "$API_TOKEN" | sha256sum; echo "$API_TOKEN"\''
    result, lines = run(container.execute, job_with(command, value, executor="container"))
    assert result.state == RunState.SUCCEEDED and lines[0].startswith(digest)
    assert set(lines[1:]) - {""} == {"***"}
    assert value not in (engine / "words.json").read_text()


def test_a_variable_of_the_task_gives_way_to_a_secret_of_that_name(engine):
    command = "box:1 sh -c 'printf %s \"$API_TOKEN\" | sha256sum'"
    job = job_with(command, executor="container", params={"env": {"API_TOKEN": "from the parameters"}})
    assert run(container.execute, job)[1][0].startswith(DIGEST)


@pytest.fixture
def cluster(settings, monkeypatch):
    monkeypatch.setattr(kubernetes_job, "POLL_SECONDS", 0.05)
    settings.SCHEDULER_CONTAINER_ENGINE = "kubernetes"
    settings.SCHEDULER_KUBERNETES_NAMESPACE = "jobs"
    made = Cluster()
    settings.SCHEDULER_KUBERNETES_URL = made.url
    yield made
    made.close()


def test_a_kubernetes_job_refers_to_a_secret_of_the_cluster_that_goes_with_it(cluster, in_thread):
    name = "scheduler-7-1"
    ended = in_thread(run, container.execute, job_with("box:1", executor="container", run_id=7))
    assert wait_until(lambda: "ownerReferences" in cluster.secrets.get(name, {}).get("metadata", {}))
    (made,) = cluster.jobs[name]["spec"]["template"]["spec"]["containers"]
    assert made["envFrom"] == [{"secretRef": {"name": name}}]
    assert cluster.secrets[name]["stringData"] == {"API_TOKEN": VALUE}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": f"uid-of-{name}"}
    assert cluster.secrets[name]["metadata"]["ownerReferences"] == [owner]
    assert VALUE not in json.dumps(cluster.jobs)
    cluster.write(name, "2026-01-01T00:00:00.000000001Z", f"token {VALUE}")
    cluster.end(name, 0)
    result, lines = ended.result(20)
    assert result.state == RunState.SUCCEEDED and "token ***" in lines
    assert cluster.secrets == {} and cluster.jobs == {}


def test_a_secret_of_the_cluster_that_a_dead_worker_left_goes_with_the_next_attempt(cluster, in_thread):
    left = {"metadata": {"name": "scheduler-7-1"}, "stringData": {"API_TOKEN": "of before"}}
    cluster.secrets = {"scheduler-7-1": left, "scheduler-8-1": left}
    ended = in_thread(run, container.execute, job_with("box:1", executor="container", run_id=7, attempt=2))
    assert wait_until(lambda: "scheduler-7-2" in cluster.states)
    assert cluster.secrets.keys() == {"scheduler-7-2", "scheduler-8-1"}
    cluster.end("scheduler-7-2", 0)
    assert ended.result(20)[0].state == RunState.SUCCEEDED


def test_a_kubernetes_job_without_secrets_asks_for_no_right_to_any(cluster, in_thread):
    ended = in_thread(run, container.execute, make_job("box:1", executor="container", run_id=7))
    assert wait_until(lambda: "scheduler-7-1" in cluster.states)
    cluster.end("scheduler-7-1", 0)
    assert ended.result(20)[0].state == RunState.SUCCEEDED
    assert not any("/secrets" in path for _method, path, _body, _token in cluster.asked)


# --- http ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(settings):
    settings.SCHEDULER_HTTP_ALLOW = [ip_network("127.0.0.0/8")]
    made = Server()
    yield made
    made.close()


def http_job(url: str, **params: Any) -> Job:
    return job_with(url, executor="http", params={"method": "POST", **params})


def test_headers_and_body_of_a_request_refer_to_it(server):
    url = server.says(200, f"you sent {VALUE} {quote(VALUE)} {base64.b64encode(VALUE.encode()).decode()}\n".encode())
    params = {"headers": {"X-Key": "Token ${secret:API_TOKEN}"}, "body": {"a": ["${secret:API_TOKEN}", "$x"]}}
    result, lines = run(http.execute, http_job(url, **params))
    (_method, _path, headers, body) = server.asked[0]
    assert headers["X-Key"] == f"Token {VALUE}" and json.loads(body) == {"a": [VALUE, "$x"]}
    assert result.state == RunState.SUCCEEDED and "you sent *** *** ***" in lines


def test_a_reference_to_a_secret_that_the_task_does_not_have_fails_before_anything_is_sent(server):
    result, _lines = run(http.execute, http_job(server.says(200), body="${secret:OTHER}"))
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.INVALID_PARAMETERS, False)
    assert "OTHER" in result.detail and server.asked == []


def test_a_secret_is_not_passed_on_to_another_host_by_a_redirect(server):
    other = Server()
    try:
        target = other.says(200, path="/there")
        headers = {"X-Key": "${secret:API_TOKEN}", "X-Other": "kept"}
        for status in (302, 307):
            server.says(status, Location=target)
            result, _lines = run(http.execute, http_job(server.url(), headers=headers, body="plain"))
            assert result.state == RunState.SUCCEEDED
        assert all(VALUE not in str(asked) for asked in other.asked)
        assert [headers.get("X-Other") for _m, _p, headers, _b in other.asked] == ["kept", "kept"]
        other.asked.clear()
        result, _lines = run(http.execute, http_job(server.url(), body="${secret:API_TOKEN}"))
        assert (result.reason, result.retryable, other.asked) == (Reason.ADDRESS_REFUSED, False, [])
        server.says(307, Location="/same")
        server.says(200, path="/same")
        result, _lines = run(http.execute, http_job(server.url(), headers=headers, body="${secret:API_TOKEN}"))
        assert server.asked[-1][1] == "/same" and server.asked[-1][2]["X-Key"] == VALUE
    finally:
        other.close()


@pytest.mark.django_db
def test_what_comes_from_elsewhere_brings_in_no_reference_to_a_secret():
    from tasks_app import transitions
    from workers_app.claiming import specs_of, taken_up

    task = make_task(
        executor="http", command="https://x.example/", secrets={"API_TOKEN": "API_TOKEN"},
        params={"headers": {"A": "${secret:API_TOKEN}"}, "body": "{{ params.headers.B }}"},
    )  # fmt: skip
    make_secret()
    good, bad = (plan(task, params={"headers": {"B": text}})[0] for text in ("word", "${secret:API_TOKEN}"))
    enqueue(good, bad)
    claimed = transitions.claim([(good, 1), (bad, 1)], worker_id=uuid4(), now=NOW, actor="test")
    taken = taken_up(claimed, specs_of({run.version_id for run in claimed}), now=NOW)
    refusals = {active.job.run_id: active.refusal for active in taken}
    assert refusals[good] is None
    refusal = refusals[bad]
    assert refusal is not None and refusal.reason == Reason.INVALID_MACRO and not refusal.retryable


# --- sql -------------------------------------------------------------------------------------------------------------


def test_a_statement_runs_on_a_connection_that_is_a_secret(tmp_path):
    import sqlite3

    path = tmp_path / "shop.sqlite3"
    with sqlite3.connect(path) as made:
        made.execute("create table t (a)")
    url = f"sqlite:///{path}"
    params = {"connection": "${secret:API_TOKEN}", "values": {"a": "${secret:API_TOKEN}"}}
    result, _lines = run(sql.execute, job_with("insert into t values (:a)", url, executor="sql", params=params))
    assert result.state == RunState.SUCCEEDED, result.detail
    with sqlite3.connect(path) as made:
        assert made.execute("select a from t").fetchall() == [(url,)]
    job = job_with("select a from t", url, executor="sql", params=params | {"values": {}})
    result, lines = run(sql.execute, job)
    assert lines == ["a", "***"]


@pytest.mark.parametrize(
    ("value", "connection_name", "reason"),
    [
        ("mysql://u:password@db.example/x", "${secret:API_TOKEN}", Reason.INVALID_PARAMETERS),
        (VALUE, "${secret:OTHER}", Reason.INVALID_PARAMETERS),
    ],
)
def test_a_connection_that_cannot_be_one_is_not_tried_again(value, connection_name, reason):
    params = {"connection": connection_name}
    result, _lines = run(sql.execute, job_with("select 1", value, executor="sql", params=params))
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, reason, False)
    assert "password" not in result.detail


# --- agents ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_agent_gets_the_secrets_of_its_runs_and_what_it_tells_is_masked():
    make_secret()
    agent = playing.registered()
    (id,) = playing.queued(secrets={"TOKEN": "API_TOKEN"})
    (spec,) = agent.claim().json()["runs"]
    assert spec["environment"]["TOKEN"] == VALUE and spec["secrets"] == ["TOKEN"]
    last = json.dumps({"token": VALUE})
    assert agent.log(id, 0, f"plain {VALUE}", last).status_code == 200
    assert agent.finish(id, lines=2, last_line=last).json() == {"state": "succeeded"}
    ended = Run.objects.get(pk=id)
    assert lines_of(ended) == ["plain ***", '{"token": "***"}'] and ended.output == {"token": "***"}


@pytest.mark.django_db(transaction=True)
def test_an_agent_is_given_no_run_whose_secret_it_cannot_have():
    agent = playing.registered()
    (id,) = playing.queued(secrets={"TOKEN": "API_TOKEN"})
    assert agent.claimed() == []
    assert Run.objects.get(pk=id).reason == Reason.SECRET_UNAVAILABLE
    (without,) = playing.queued()
    (spec,) = agent.claim().json()["runs"]
    assert spec["id"] == without and spec["secrets"] == [] and VALUE not in json.dumps(spec)
