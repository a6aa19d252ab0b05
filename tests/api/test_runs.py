"""Runs over the API: trigger, read, cancel, rerun, hold, events and output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tasks_app import deaths, end_steps, moves, transitions
from tasks_app.deaths import Cause, Death
from tasks_app.end_steps import Taken
from tasks_app.models import Run, RunOutput
from tasks_app.states import RunState
from tests.api.client import default_pool, is_problem
from workers_app.models import Worker

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def client(api, alice):
    return api(alice)


@pytest.fixture
def trigger(client):
    def now(task, **body):
        response = client.post(f"/api/tasks/{task.pk}/trigger", body)
        assert response.status_code == 201, response.content
        return response.json()["id"]

    return now


@pytest.fixture
def worker(db):
    return Worker.objects.create(
        id=uuid4(),
        name="w-1",
        host="h",
        pid=1,
        pool=default_pool(),
        slots=4,
        started_at=NOW,
        beat_at=NOW,
        lease_until=NOW,
    )


def start(run_id, worker):
    transitions.enqueue([run_id], now=NOW, sweep_at=NOW, actor="test")
    (claimed,) = transitions.claim([(run_id, 1)], worker_id=worker.pk, now=NOW, actor="test")
    return claimed


def finish(run_id, worker, **outcome):
    start(run_id, worker)
    end = moves.Outcome(run_id, 1, outcome.pop("state", RunState.SUCCEEDED), **outcome)
    assert transitions.finish([end], worker_id=worker.pk, now=NOW + timedelta(seconds=2), actor="test")


def test_a_finished_run_reads_as_the_contract_says(client, make_task, trigger, worker):
    task = make_task("t")
    run_id = trigger(task, params={"x": 1})
    finish(run_id, worker, exit_code=0, output={"rows": 3})
    run = client.get(f"/api/runs/{run_id}").json()
    expected = {
        "id": run_id,
        "task": task.pk,
        "task_name": "t",
        "state": "succeeded",
        "reason": "",
        "run_type": "manual",
        "attempt": 1,
        "nominal_at": None,
        "exit_code": 0,
        "output": {"rows": 3},
        "worker": str(worker.pk),
        "worker_name": "w-1",
        "params": {"x": 1},
        "version": 1,
        "started_at": "2026-03-01T12:00:00Z",
        "finished_at": "2026-03-01T12:00:02Z",
    }
    assert {name: run[name] for name in expected} == expected
    assert run["due_at"].endswith("Z") and run["queued_at"].endswith("Z")


def test_a_repeated_idempotency_key_answers_the_same_run_with_200(client, make_task):
    path = f"/api/tasks/{make_task().pk}/trigger"
    first = client.post(path, {"idempotency_key": "k1", "params": {"x": 1}})
    again = client.post(path, {"idempotency_key": "k1", "params": {"x": 2}})
    header = client.post(path, {}, headers={"Idempotency-Key": "k1"})
    other = client.post(path, {}, headers={"Idempotency-Key": "k2"})
    assert [r.status_code for r in (first, again, header, other)] == [201, 200, 200, 201]
    assert first.json()["id"] == again.json()["id"] == header.json()["id"] != other.json()["id"]
    assert again.json()["params"] == {"x": 1}
    is_problem(client.post(path, {"idempotency_key": "a"}, headers={"Idempotency-Key": "b"}), 400, "idempotency_key")
    assert client.post(path, {"idempotency_key": "a"}, headers={"Idempotency-Key": "a"}).status_code == 201


def test_the_same_key_on_another_task_is_another_run(client, make_task):
    ids = {
        client.post(f"/api/tasks/{task.pk}/trigger", {"idempotency_key": "k"}).json()["id"]
        for task in (make_task("a"), make_task("b"))
    }
    assert len(ids) == 2


def test_a_trigger_takes_priority_and_not_before(client, make_task):
    later = datetime.now(UTC) + timedelta(hours=2)
    body = {"priority": "high", "not_before": later.isoformat()}
    run = client.post(f"/api/tasks/{make_task().pk}/trigger", body).json()
    assert run["priority"] == "high"
    assert datetime.fromisoformat(run["due_at"]) == later


def test_a_batch_makes_its_runs_in_order_and_counts_the_new_ones(client, make_task):
    path = f"/api/tasks/{make_task().pk}/trigger-batch"
    made = client.post(path, {"items": [{"params": {"i": i}, "idempotency_key": f"k{i}"} for i in range(3)]})
    assert made.status_code == 201 and made.json()["created"] == 3
    again = client.post(path, {"items": [{"idempotency_key": "k1"}, {}, {"idempotency_key": "k9", "priority": 90}]})
    assert again.json()["created"] == 2 and again.json()["ids"][0] == made.json()["ids"][1]
    assert [Run.objects.get(pk=pk).params for pk in made.json()["ids"]] == [{"i": 0}, {"i": 1}, {"i": 2}]


def test_a_batch_that_is_sent_again_with_its_key_answers_the_same_runs(client, make_task):
    task, other = make_task(), make_task("other")
    path = f"/api/tasks/{task.pk}/trigger-batch"
    body = {"items": [{"params": {"i": i}} for i in range(12)] + [{"params": {"i": 12}, "idempotency_key": "own"}]}
    made = client.post(path, body, headers={"Idempotency-Key": "b1"}).json()
    again = client.post(path, body, headers={"Idempotency-Key": "b1"}).json()
    assert (made["created"], again) == (13, {"created": 0, "ids": made["ids"]})
    assert [Run.objects.get(pk=pk).params["i"] for pk in made["ids"]] == list(range(13))
    assert made["ids"][:12] == sorted(made["ids"][:12]), "they start in the order of the items"
    assert client.post(path, body, headers={"Idempotency-Key": "b2"}).json()["created"] == 12
    assert client.post(f"/api/tasks/{other.pk}/trigger-batch", body, headers={"Idempotency-Key": "b1"}).json() != made
    assert client.post(path, {"items": [{}]}).json()["created"] == 1
    is_problem(client.post(path, body, headers={"Idempotency-Key": "x" * 191}), 400, "idempotency_key")


def test_a_batch_of_ten_thousand_takes_a_handful_of_statements(client, make_task, django_assert_max_num_queries):
    body = {"items": [{"params": {"i": i}} for i in range(10_000)]}
    path = f"/api/tasks/{make_task().pk}/trigger-batch"
    with django_assert_max_num_queries(20):
        made = client.post(path, body)
    assert made.json()["created"] == 10_000 == len(set(made.json()["ids"]))


def test_cancel_ends_a_waiting_run_at_once_and_asks_a_running_one(client, make_task, trigger, worker):
    task = make_task()
    waiting, running, over, other = (trigger(task) for _ in range(4))
    start(running, worker)
    finish(over, worker)
    answer = client.post(f"/api/runs/{waiting}/cancel")
    assert answer.status_code == 202 and answer.json()["state"] == "cancelled"
    assert answer.json()["cancel_requested_at"].endswith("Z")
    asked = client.post(f"/api/runs/{running}/cancel", {})
    assert asked.status_code == 202 and asked.json()["state"] == "running" and asked.json()["cancel_requested_at"]
    assert is_problem(client.post(f"/api/runs/{over}/cancel"), 409)["code"] == "wrong_state"
    assert client.get(f"/api/runs/{other}").json()["state"] == "waiting"


def test_terminate_asks_the_worker_to_kill_a_running_run(client, make_task, trigger, worker):
    task = make_task()
    waiting, running, over, other = (trigger(task) for _ in range(4))
    start(running, worker)
    finish(over, worker)
    assert client.post(f"/api/runs/{waiting}/terminate").json()["state"] == "cancelled"
    client.post(f"/api/runs/{running}/cancel")
    asked = client.post(f"/api/runs/{running}/terminate", {})
    assert asked.status_code == 202 and asked.json()["terminate_requested_at"].endswith("Z")
    assert is_problem(client.post(f"/api/runs/{over}/terminate"), 409)["code"] == "wrong_state"
    assert client.get(f"/api/runs/{other}").json()["terminate_requested_at"] is None


def test_a_rerun_is_a_new_run_that_points_to_the_old_one_which_must_be_over(client, make_task, trigger, worker):
    run_id = trigger(make_task(), params={"x": 1})
    is_problem(client.post(f"/api/runs/{run_id}/rerun"), 409)
    finish(run_id, worker, state=RunState.FAILED, exit_code=3)
    again = client.post(f"/api/runs/{run_id}/rerun")
    assert again.status_code == 201
    assert (again.json()["rerun_of"], again.json()["params"], again.json()["run_type"]) == (run_id, {"x": 1}, "rerun")
    assert client.get(f"/api/runs/{run_id}").json()["exit_code"] == 3


def test_a_firing_is_run_again_from_where_it_failed(client, make_task, trigger, worker):
    from tests.tasks_app.making import bring, depend

    first, second = make_task("first"), make_task("second")
    depend(first, second)
    root = trigger(first)
    below = Run.objects.get(root=root).pk
    is_problem(client.post(f"/api/runs/{below}/rerun", {"scope": "all"}), 400, "scope")
    is_problem(client.post(f"/api/runs/{below}/rerun", {"scope": "failed"}), 409)
    finish(root, worker)
    bring(below, RunState.CANCELLED)
    again = client.post(f"/api/runs/{root}/rerun", {"scope": "failed"})
    assert again.status_code == 201
    assert (again.json()["rerun_of"], again.json()["task_name"], again.json()["root"]) == (below, "second", None)
    content = is_problem(client.post(f"/api/runs/{below}/rerun", {"scope": "failed"}), 409)
    assert content["run"] == again.json()["id"]
    alone = client.post(f"/api/runs/{root}/rerun", {"scope": "run"}).json()
    assert (alone["rerun_of"], alone["task_name"]) == (root, "first")


def test_a_waiting_run_can_be_held_and_let_go_and_a_running_one_cannot(client, make_task, trigger, worker):
    task = make_task()
    run_id, running = trigger(task), trigger(task)
    start(running, worker)
    assert client.post(f"/api/runs/{run_id}/hold").json()["held"] is True
    assert client.post(f"/api/runs/{run_id}/unhold").json()["held"] is False
    is_problem(client.post(f"/api/runs/{running}/hold"), 409)
    is_problem(client.post(f"/api/runs/{run_id}/hold", {"why": "x"}), 400, "why")


def test_events_tell_every_change_in_order(client, make_task, trigger, worker):
    run_id = trigger(make_task())
    finish(run_id, worker)
    events = client.get(f"/api/runs/{run_id}/events").json()["results"]
    moves = [(event["from"], event["to"]) for event in events]
    assert moves == [("", "waiting"), ("waiting", "queued"), ("queued", "running"), ("running", "succeeded")]
    assert events[2]["at"] == "2026-03-01T12:00:00Z" and events[0]["actor"] == "key tests of alice"
    assert events[0]["attempt"] == 1


def write_lines(run_id, first, count, attempt=1, truncated=False):
    lines = [["2026-03-01T12:00:01Z", "stdout", f"line {first + i}"] for i in range(count)]
    RunOutput.objects.create(
        run_id=run_id, attempt=attempt, first_line=first, line_count=count, lines=lines, truncated=truncated
    )


def test_output_is_read_from_any_line_on_and_complete_at_its_end(client, make_task, trigger, worker):
    run_id = trigger(make_task())
    start(run_id, worker)
    write_lines(run_id, 0, 300)
    write_lines(run_id, 300, 200)
    path = f"/api/runs/{run_id}/log"
    part = client.get(f"{path}?offset=298&limit=4").json()
    assert [line["n"] for line in part["lines"]] == [298, 299, 300, 301]
    assert part["lines"][0] == {"n": 298, "at": "2026-03-01T12:00:01Z", "stream": "stdout", "text": "line 298"}
    assert (part["next_offset"], part["complete"], part["truncated"]) == (302, False, False)
    assert client.get(f"{path}?offset=302").json()["complete"] is False
    transitions.finish([moves.Outcome(run_id, 1, RunState.SUCCEEDED)], worker_id=worker.pk, now=NOW, actor="test")
    assert client.get(f"{path}?offset=0&limit=500").json()["complete"] is True
    assert client.get(f"{path}?offset=0&limit=499").json()["complete"] is False
    end = client.get(f"{path}?offset=500").json()
    assert (end["lines"], end["next_offset"], end["complete"]) == ([], 500, True)


def test_output_that_was_cut_says_so(client, make_task, trigger, worker):
    run_id, whole = trigger(make_task()), trigger(make_task("other"))
    write_lines(run_id, 0, 2, truncated=True)
    write_lines(whole, 0, 2)
    assert client.get(f"/api/runs/{run_id}/log").json()["truncated"] is True
    assert client.get(f"/api/runs/{whole}/log").json()["truncated"] is False


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=0", "limit=5001", "offset=99999999999999", "page=2"])
def test_a_wrong_place_in_the_output_is_refused_by_name(client, make_task, trigger, query):
    is_problem(client.get(f"/api/runs/{trigger(make_task())}/log?{query}"), 400, query.split("=")[0])


def test_runs_are_filtered_by_task_states_type_and_time(client, make_task, trigger, worker):
    a, b = make_task("a"), make_task("b")
    one, two, three = trigger(a), trigger(a), trigger(b)
    finish(one, worker)
    start(two, worker)

    def found(query):
        return [run["id"] for run in client.get(f"/api/runs?{query}").json()["results"]]

    assert found(f"task={a.pk}") == [two, one]
    assert found(f"task={a.pk}&state=succeeded&run_type=manual&limit=100") == [one]
    assert found("state=succeeded&state=running") == [two, one]
    of_task = client.get(f"/api/tasks/{a.pk}/runs?state=succeeded&state=running")
    assert of_task.status_code == 200, of_task.content
    assert [run["id"] for run in of_task.json()["results"]] == [two, one]
    assert found("run_type=scheduled") == []
    assert found("task_name=b") == [three]
    assert found("project=analytics&ordering=id") == [one, two, three]
    assert found("created_after=2099-01-01T00:00:00Z") == []
    assert [run["id"] for run in client.get(f"/api/tasks/{a.pk}/runs").json()["results"]] == [two, one]


def test_the_steps_by_which_a_run_was_ended_are_told_with_their_times(client, make_task, trigger, worker):
    task = make_task()
    ended, never_started, untouched = trigger(task), trigger(task), trigger(task)
    start(ended, worker)
    client.post(f"/api/runs/{ended}/cancel")
    client.post(f"/api/runs/{never_started}/cancel")
    asked = Run.objects.get(pk=ended).cancel_requested_at
    assert asked is not None
    taken = [("acknowledged", 0.5), ("term", 0.6), ("kill", 5.6)]
    end_steps.record(Taken(ended, 1, step, asked + timedelta(seconds=after)) for step, after in taken)
    over = moves.Outcome(ended, 1, RunState.CANCELLED)
    at = asked + timedelta(seconds=5.7)
    transitions.finish([over], worker_id=worker.pk, now=at, actor="test")
    steps = client.get(f"/api/runs/{ended}").json()["cancel_steps"]
    assert [(step["step"], round(step["after"], 3), step["attempt"]) for step in steps] == [
        ("asked", 0.0, 1),
        ("acknowledged", 0.5, 1),
        ("term", 0.6, 1),
        ("kill", 5.6, 1),
        ("ended", 5.7, 1),
    ]
    assert steps[0]["at"].endswith("Z")
    found = {run["id"]: run["cancel_steps"] for run in client.get("/api/runs").json()["results"]}
    assert found[ended] == steps
    assert [step["step"] for step in found[never_started]] == ["asked", "ended"]
    assert found[untouched] == []


def test_what_is_known_of_dead_workers_is_told_and_the_run_released(client, api, bob, charlie, make_task, trigger):
    run, other = trigger(make_task(retry_on_lost=True)), trigger(make_task("other"))
    dead = uuid4()
    transitions.enqueue([run], now=NOW, sweep_at=NOW, actor="test")
    transitions.claim([(run, 1)], worker_id=dead, now=NOW, actor="test")
    lost = moves.Outcome(run, 1, RunState.QUARANTINED, "poison", worker_died=True)
    transitions.recover([lost], now=NOW, actor="test")
    deaths.record([Death(run, 1, dead, "w-1", "node")], now=NOW)
    deaths.explain(dead, Cause(signal=9, out_of_memory=True, peak_mb=90, peaks_of_runs={run: 700}))
    lines = [["2026-03-01T12:00:00Z", "stdout", "the last"]]
    RunOutput.objects.create(run_id=run, attempt=1, first_line=0, line_count=1, lines=lines)
    (death,) = client.get(f"/api/runs/{run}/deaths").json()["results"]
    assert death == {
        "attempt": 1,
        "at": "2026-03-01T12:00:00Z",
        "worker": str(dead),
        "worker_name": "w-1",
        "host": "node",
        "signal": 9,
        "out_of_memory": True,
        "worker_peak_mb": 90,
        "run_peak_mb": 700,
        "last_words": "",
        "last_lines": ["the last"],
    }
    assert client.get(f"/api/runs/{other}/deaths").json() == {"results": []}
    stranger = api(charlie)
    assert stranger.get(f"/api/runs/{run}/deaths").status_code == 404
    assert stranger.post(f"/api/runs/{run}/release").status_code == 404
    is_problem(client.post(f"/api/runs/{run}/release", {"how": "more_memory"}), 400, "memory_limit_mb")
    is_problem(client.post(f"/api/runs/{run}/release", {"how": "gently"}), 400, "how")
    assert is_problem(client.post(f"/api/runs/{other}/release"), 409)["code"] == "wrong_state"
    answer = api(bob).post(f"/api/runs/{run}/release", {"how": "alone"})
    assert answer.status_code == 201
    assert (answer.json()["rerun_of"], answer.json()["alone"], answer.json()["memory_limit_mb"]) == (run, True, None)


def test_output_is_searched_whatever_its_case_and_colours_and_downloaded_as_text(client, make_task, trigger, worker):
    run = trigger(make_task())
    start(run, worker)
    lines = [
        ["2026-03-01T12:00:00Z", "stdout", f"line {n}" + (" \x1b[31mER\x1b[0mROR" if n % 3 == 0 else "")]
        for n in range(10)
    ]
    RunOutput.objects.create(run_id=run, attempt=1, first_line=0, line_count=10, lines=lines)
    found = client.get(f"/api/runs/{run}/log?search=error&limit=3").json()
    assert [line["n"] for line in found["lines"]] == [0, 3, 6]
    assert (found["next_offset"], found["complete"]) == (9, False)
    rest = client.get(f"/api/runs/{run}/log?search=error&limit=3&offset=9").json()
    assert ([line["n"] for line in rest["lines"]], rest["next_offset"], rest["complete"]) == ([9], 10, False)
    assert client.get(f"/api/runs/{run}/log?search=nothing").json()["lines"] == []
    text = client.get(f"/api/runs/{run}/log.txt")
    assert text["Content-Disposition"] == f'attachment; filename="run-{run}-1.txt"'
    content = b"".join(text.streaming_content).decode()
    assert content.startswith("line 0 \x1b[31mER") and content.endswith("ROR\n") and content.count("\n") == 10


def test_foreign_output_can_neither_be_searched_nor_downloaded(api, charlie, make_task, trigger):
    run = trigger(make_task())
    for path in (f"/api/runs/{run}/log?search=a", f"/api/runs/{run}/log.txt"):
        assert api(charlie).get(path).status_code == 404
        assert api(None).get(path).status_code == 401
