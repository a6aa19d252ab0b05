"""The protocol of agents: what they get, what they may report, and what comes of both. docs/agents.md."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from string import ascii_letters
from typing import Any

import pytest

from access_app import runtime_services, worker_keys
from access_app.actors import system_actor
from dispatcher_app.rescue import expire_leases, recover_orphans
from tasks_app import transitions
from tasks_app.models import Run, RunEvent
from tasks_app.rowset import database_now
from tasks_app.run_output import log_lines
from tasks_app.states import RunState
from tests.api.client import is_problem
from tests.tasks_app.making import ACTOR, enqueue, make_pool, make_task, make_worker, plan, state_of
from tests.workers_app.agents import Agent, make_key, queued, registered
from workers_app.models import Worker

pytestmark = pytest.mark.django_db


def row(agent: Agent) -> Worker:
    return Worker.objects.get(pk=agent.id)


def run_row(id: int) -> Run:
    return Run.objects.get(pk=id)


def set_state(agent: Agent, state: str) -> None:
    Worker.objects.filter(pk=agent.id).update(state=state)


def end_lease(agent: Agent) -> None:
    Worker.objects.filter(pk=agent.id).update(lease_until=database_now() - timedelta(seconds=1))


def texts(id: int) -> list[str]:
    return [line["text"] for line in log_lines(run_row(id), offset=0, limit=100, attempt=1)[0]]


def started_before(id: int, seconds: float) -> None:
    Run.objects.filter(pk=id).update(started_at=database_now() - timedelta(seconds=seconds))


# Register


def test_an_agent_registers_as_a_worker_of_the_pool_of_its_key_and_is_told_the_pace(settings):
    settings.SCHEDULER_AGENT_POLL_SECONDS = 0.5
    key, token = make_key()
    answer = Agent(token).register(name="edge-1", host="h", pid=7, labels={"zone": "a"}, slots=3, code_version="1")
    assert answer.status_code == 201
    content = answer.json()
    assert (content["poll_seconds"], content["heartbeat_seconds"], content["lease_seconds"]) == (0.5, 5, 15)
    worker = Worker.objects.get(pk=content["id"])
    assert (worker.name, worker.host, worker.pid, worker.slots) == ("edge-1", "h", 7, 3)
    assert (worker.pool.name, worker.labels, worker.key, worker.executors) == (
        "default", {"zone": "a"}, key, ["python", "shell"],
    )  # fmt: skip
    assert worker.lease_until > database_now() + timedelta(seconds=10)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"slots": 0}, "slots"),
        ({"executors": []}, "executors"),
        ({"executors": ["callable"]}, "executors[0]"),
        ({"labels": {"not": "x"}}, "labels"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"name": "a b"}, "name"),
        ({"shell": "bash"}, "shell"),
    ],
)
def test_what_an_agent_says_of_itself_is_checked(wish, field):
    is_problem(Agent(make_key()[1]).register(**wish), 400, *([field] if "[" not in field else []))
    assert not Worker.objects.exists()


def test_a_key_is_for_its_own_pools_alone():
    edge, far = make_pool("edge"), make_pool("far")
    agent = Agent(make_key(edge, far)[1])
    assert is_problem(agent.register(pool="default"), 403)["code"] == "pool_not_allowed"
    assert is_problem(agent.register(pool="nowhere"), 403)["code"] == "pool_not_allowed"
    assert "edge, far" in is_problem(agent.register(), 400, "pool")["errors"]["pool"][0]
    assert agent.register(pool="far").status_code == 201


def test_a_worker_of_another_key_does_not_exist_for_this_one():
    mine, other = registered(), registered()
    (run,) = queued()
    assert mine.claimed() == [run]
    other.id = mine.id
    for answer in (
        other.beat(),
        other.claim(),
        other.log(run, 0, "x"),
        other.finish(run),
        other.post(f"/{mine.id}/leave"),
    ):
        is_problem(answer, 404)
    assert state_of(run) == RunState.RUNNING and row(mine).state == "online"


def test_a_worker_of_the_broker_is_not_for_keys():
    agent = registered()
    agent.id = str(make_worker().pk)
    is_problem(agent.beat(), 404)


# Keys


def test_a_revoked_key_is_refused_at_once_and_what_ran_is_lost_once_the_lease_is_over():
    key, token = make_key()
    agent, other = registered(token), registered()
    (run,) = queued()
    assert agent.claimed() == [run]
    worker_keys.revoke(system_actor(), key, now=database_now())
    for answer in (agent.beat(), agent.claim(), agent.log(run, 0, "x"), agent.finish(run), agent.register()):
        assert is_problem(answer, 401)["code"] == "invalid_key"
    assert other.beat().status_code == 200
    end_lease(agent)
    assert expire_leases(database_now()) == 1
    assert len(recover_orphans(database_now(), actor=ACTOR)) == 1
    assert (state_of(run), run_row(run).reason) == (RunState.LOST, "worker_lost")


def test_a_key_tells_when_it_was_last_used():
    key, token = make_key()
    registered(token)
    key.refresh_from_db()
    assert key.last_used_at is not None


def test_no_other_key_opens_the_protocol_and_a_worker_key_opens_nothing_else(api, root_user):
    agent = registered()
    root = api(root_user)
    is_problem(root.post("/api/workers", {"executors": ["shell"]}), 403)
    is_problem(root.post(f"/api/workers/{agent.id}/claim", {"running": []}), 403)
    for path in ("/api/runs", "/api/tasks", "/api/auth/keys", "/api/auth/worker-keys"):
        is_problem(agent.client.get(path), 401)
    is_problem(agent.client.get("/api/workers"), 403)


def test_the_api_creates_lists_and_revokes_worker_keys(api, root_user):
    root = api(root_user)
    made = root.post("/api/auth/worker-keys", {"name": "edge", "pools": ["default"]})
    assert made.status_code == 201 and made["Cache-Control"] == "no-store"
    token, id = made.json()["key"], made.json()["id"]
    assert token.startswith("dts_worker_") and token not in str(root.get("/api/auth/worker-keys").json())
    registered(token)
    (listed,) = root.get("/api/auth/worker-keys").json()["results"]
    assert (listed["prefix"], listed["pools"], listed["created_by"]) == (token[:17], ["default"], "root")
    assert listed["last_used_at"] and listed["revoked_at"] is None
    assert root.delete(f"/api/auth/worker-keys/{id}").status_code == 204
    assert root.get("/api/auth/worker-keys").json()["results"][0]["revoked_at"]
    is_problem(Agent(token).register(), 401)
    is_problem(root.post("/api/auth/worker-keys", {"name": "k", "pools": []}), 400, "pools")
    is_problem(root.post("/api/auth/worker-keys", {"name": "k", "pools": ["nowhere"]}), 400, "pools")


# Heartbeat


def test_a_heartbeat_renews_the_lease_and_tells_the_load():
    agent = registered()
    end_lease(agent)
    answer = agent.beat((1, 1), cpu_percent=12.5, memory_percent=40, memory_bytes=1024)
    assert answer.json()["state"] == "online"
    worker = row(agent)
    assert worker.lease_until > database_now() + timedelta(seconds=10)
    assert (worker.slots_used, worker.cpu_percent, worker.memory_percent, worker.memory_bytes) == (1, 12.5, 40, 1024)


@pytest.mark.parametrize("state", ["lost", "offline"])
def test_a_worker_that_is_given_up_learns_it_from_every_call(state):
    agent = registered()
    queued()
    set_state(agent, state)
    for answer in (agent.beat(), agent.claim()):
        assert is_problem(answer, 409)["code"] == "lease_lost"


def test_an_agent_hears_what_has_to_end_with_each_beat_and_claim():
    agent = registered(slots=4)
    fine, cancelled, killed, gone = queued(4)
    agent.claimed()
    now = database_now()
    Run.objects.filter(pk__in=[cancelled, killed]).update(cancel_requested_at=now)
    Run.objects.filter(pk=killed).update(terminate_requested_at=now)
    held = [(id, 1) for id in (fine, cancelled, killed)] + [(gone, 2)]
    for answer in (agent.beat(*held), agent.claim(*held)):
        assert answer.json()["end"] == [
            {"run": cancelled, "attempt": 1, "how": "cancel"},
            {"run": killed, "attempt": 1, "how": "kill"},
            {"run": gone, "attempt": 2, "how": "lost"},
        ]


def test_an_agent_that_wants_to_leave_drains_and_signs_off():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    queued()
    assert agent.beat((run, 1), draining=True).json()["state"] == "draining"
    assert agent.claimed((run, 1)) == []
    agent.finish(run)
    assert agent.post(f"/{agent.id}/leave").status_code == 204
    assert row(agent).state == "offline" and row(agent).stopped_at is not None


# Claim


def test_a_claim_gives_runs_for_the_free_slots_in_their_order_and_all_that_executing_them_takes():
    agent = registered(slots=2)
    task = make_task(executor="shell", command="echo", params={"x": 1}, timeout_seconds=9)
    low, high = plan(task, 2, now=database_now())
    Run.objects.filter(pk=high).update(priority=90)
    enqueue(low, high, now=database_now())
    (third,) = queued()
    runs = agent.claim().json()["runs"]
    assert [run["id"] for run in runs] == [high, low]
    assert runs[0]["environment"] | {"PARAM_x": "1", "SCHEDULER_RUN_ID": str(high)} == runs[0]["environment"]
    assert (runs[0]["command"], runs[0]["executor"], runs[0]["timeout_seconds"]) == ("echo", "shell", 9)
    assert [state_of(id) for id in (low, high, third)] == ["running", "running", "queued"]
    assert agent.claimed((low, 1), (high, 1)) == []
    agent.finish(low)
    assert agent.claimed((high, 1)) == [third]
    assert RunEvent.objects.get(run=high, to_state="running").actor == f"worker {row(agent).name}"


def test_a_claim_whose_answer_was_lost_gives_the_same_runs_again_and_nothing_new():
    agent = registered(slots=2)
    first, second, third = queued(3)
    assert agent.claimed() == [first, second]
    again = agent.claim()
    assert [(run["id"], run["attempt"]) for run in again.json()["runs"]] == [(first, 1), (second, 1)]
    assert agent.claimed((first, 1)) == [second]
    assert state_of(third) == RunState.QUEUED
    assert RunEvent.objects.filter(to_state="running").count() == 2


@pytest.mark.parametrize("state", ["cordoned", "draining"])
def test_a_worker_that_is_cordoned_or_drains_gets_what_is_its_own_and_nothing_new(state):
    agent = registered()
    (own,) = queued()
    agent.claimed()
    queued()
    set_state(agent, state)
    answer = agent.claim((own, 1)).json()
    assert (answer["runs"], answer["end"], answer["state"]) == ([], [], state)
    assert agent.claimed() == [own]


def test_a_worker_whose_lease_is_over_gets_nothing_before_it_has_beaten():
    agent = registered()
    (run,) = queued()
    end_lease(agent)
    assert agent.claimed() == []
    agent.beat()
    assert agent.claimed() == [run]


def test_an_agent_gets_runs_of_its_pool_that_it_can_execute_and_that_are_for_nobody_else():
    # With one slot: what is not for it takes no place among what it may get.
    agent, other = registered(executors=["shell"], slots=1), registered()
    (python,) = queued(executor="python", command="x.py")
    (callable_,) = queued(executor="callable", command="workers_app.samples.noop")
    (elsewhere,) = queued(pool=make_pool("elsewhere"))
    (others,) = queued()
    (own,) = queued()
    Run.objects.filter(pk=others).update(target_id=other.id)
    Run.objects.filter(pk=own).update(target_id=agent.id)
    assert agent.claimed() == [own]
    assert sorted(other.claimed()) == sorted([python, others])
    assert [state_of(id) for id in (callable_, elsewhere)] == ["queued", "queued"]


def test_a_run_that_is_to_be_alone_waits_for_an_idle_agent_and_has_it_for_itself():
    agent = registered(slots=3)
    before, alone, after = queued(3)
    Run.objects.filter(pk=alone).update(alone=True)
    assert agent.claimed() == [before]
    assert agent.claimed((before, 1)) == [], "nothing is begun before it"
    agent.finish(before)
    assert agent.claimed() == [alone]
    assert agent.claimed((alone, 1)) == []
    assert agent.claimed() == [alone], "again, its answer may have been lost"
    agent.finish(alone)
    assert agent.claimed() == [after]


def test_a_run_whose_macros_cannot_be_filled_in_fails_without_reaching_the_agent():
    agent = registered()
    (bad,) = queued(params={"x": "{{ upstream.nobody.rows }}"})
    (good,) = queued()
    assert agent.claimed() == [good]
    assert (state_of(bad), run_row(bad).reason) == (RunState.FAILED, "invalid_macro")


# Output


def test_lines_are_kept_once_whatever_is_repeated_and_a_gap_is_refused():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    assert agent.log(run, 0, "a", "b").json() == {"next_offset": 2}
    assert agent.log(run, 0, "a", "b").json() == {"next_offset": 2}
    assert agent.log(run, 1, "b", "c").json() == {"next_offset": 3}
    gap = is_problem(agent.log(run, 4, "e"), 409)
    assert (gap["code"], gap["next_offset"]) == ("output_gap", 3)
    assert texts(run) == ["a", "b", "c"]


def test_lines_have_their_stream_and_the_time_at_which_they_came():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    agent.log(run, 0, lines=[[60.0, "stderr", "old"], [0, "system", "new"]])
    old, new = log_lines(run_row(run), offset=0, limit=10, attempt=1)[0]
    assert (old["stream"], new["stream"]) == ("stderr", "system")
    ages = [(database_now() - datetime.fromisoformat(line["at"])).total_seconds() for line in (old, new)]
    assert 59 < ages[0] < 70 and -1 < ages[1] < 10


def test_more_lines_than_one_batch_holds_and_the_mark_of_what_was_left_out_are_kept():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    agent.log(run, 0, *(str(n) for n in range(1200)))
    assert agent.log(run, 1200, "… 5 bytes …", truncated=True).json() == {"next_offset": 1201}
    batches = run_row(run).output_batches.order_by("first_line").values_list("first_line", "line_count", "truncated")
    assert list(batches) == [(0, 500, False), (500, 500, False), (1000, 200, False), (1200, 1, True)]


def test_an_agent_that_ignores_the_cap_is_stopped(settings):
    chars = Random(1)
    settings.SCHEDULER_OUTPUT_BYTES = settings.SCHEDULER_LINE_BYTES = 1000
    agent = registered()
    (run,) = queued()
    agent.claimed()
    hostile = ["".join(chars.choices(ascii_letters, k=5000)) for _ in range(11)]
    assert agent.log(run, 0, *hostile).status_code == 200
    assert all(len(text) <= 1100 for text in texts(run))
    assert is_problem(agent.log(run, 11, "more"), 413)["code"] == "output_full"


@pytest.mark.parametrize(
    "line", [["x"], [0, "stdin", "x"], ["0", "stdout", "x"], [0, "stdout", 1], "x", [True, "stdout", "x"]]
)
def test_a_line_that_is_none_is_refused(line):
    agent = registered()
    (run,) = queued()
    agent.claimed()
    is_problem(agent.log(run, 0, lines=[line]), 400)


# Finish


def test_the_facts_of_the_end_become_the_outcome_here():
    agent = registered(slots=5)
    good, bad, signalled, missing, again = (queued()[0] for _ in range(5))
    agent.claimed()
    agent.log(good, 0, "{}")
    assert agent.finish(good, lines=1, last_line='{"rows": 3}').json() == {"state": "succeeded"}
    assert (run_row(good).output, run_row(good).exit_code) == ({"rows": 3}, 0)
    assert agent.finish(bad, exit_code=3).json() == {"state": "failed"}
    assert agent.finish(signalled, exit_code=-9).json() == {"state": "failed"}
    assert agent.finish(missing, exit_code=127).json() == {"state": "failed"}
    assert agent.finish(again, failure="script_missing", detail="There is no x.py.", exit_code=None).status_code == 200
    assert [(run_row(id).reason, run_row(id).reason_detail) for id in (bad, signalled, missing, again)] == [
        ("exit_code", "Exit code 3."),
        ("exit_code", "Ended by signal 9."),
        ("command_not_found", "Exit code 127: command not found."),
        ("script_missing", "There is no x.py."),
    ]


def test_a_failure_is_tried_again_by_the_rules_of_the_task_and_final_where_those_say_so():
    agent = registered()
    task: dict[str, Any] = {"retry_count": 1, "retry_delay_seconds": 60, "retry_jitter": False}
    (run,) = queued(**task)
    (final,) = queued(**task, never_retry={"exit_codes": [2]})
    agent.claimed()
    assert agent.finish(run, exit_code=1).json() == {"state": "waiting"}
    assert agent.finish(final, exit_code=2).json() == {"state": "failed"}
    assert run_row(run).attempt == 2 and run_row(run).due_at > database_now() + timedelta(seconds=50)


def test_a_time_limit_counts_when_the_time_has_passed_here():
    agent = registered()
    over, early = queued(timeout_seconds=60)[0], queued(timeout_seconds=60)[0]
    agent.claimed()
    started_before(over, 61)
    assert agent.finish(over, exit_code=-15, ended_by="timeout").json() == {"state": "timed_out"}
    assert agent.finish(early, exit_code=-15, ended_by="timeout").json() == {"state": "failed"}


def test_a_cancel_counts_when_somebody_asked_for_it():
    agent = registered(slots=3)
    asked, killed, unasked = (queued()[0] for _ in range(3))
    agent.claimed()
    Run.objects.filter(pk__in=[asked, killed]).update(cancel_requested_at=database_now())
    Run.objects.filter(pk=killed).update(terminate_requested_at=database_now())
    assert agent.finish(asked, exit_code=-15, ended_by="cancel").json() == {"state": "cancelled"}
    assert agent.finish(killed, exit_code=-9, ended_by="kill").json() == {"state": "cancelled"}
    assert agent.finish(unasked, exit_code=-15, ended_by="cancel").json() == {"state": "failed"}
    assert run_row(killed).reason_detail == "Killed on request."


def test_what_an_agent_ends_because_it_stops_is_handed_back_or_lost():
    agent = registered()
    back, lost = queued(retry_on_lost=True)[0], queued()[0]
    agent.claimed()
    for run, state in ((back, "waiting"), (lost, "lost")):
        assert agent.finish(run, exit_code=-15, ended_by="stopping").json() == {"state": state}
        assert run_row(run).reason == "worker_stopped"


def test_a_run_does_not_end_before_all_its_lines_are_here():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    agent.log(run, 0, "a")
    assert is_problem(agent.finish(run, lines=3), 409)["next_offset"] == 1
    assert state_of(run) == RunState.RUNNING
    agent.log(run, 1, "b", "c")
    assert agent.finish(run, lines=3).json() == {"state": "succeeded"}
    assert texts(run) == ["a", "b", "c"]


def test_a_zombie_can_neither_write_nor_finish_and_its_run_goes_on_elsewhere():
    zombie, heir = registered(), registered()
    (run,) = queued(retry_on_lost=True)
    zombie.claimed()
    zombie.log(run, 0, "before")
    end_lease(zombie)
    assert expire_leases(database_now()) == 1 and len(recover_orphans(database_now(), actor=ACTOR)) == 1
    for attempt in (1, 2):
        for answer in (zombie.log(run, 1, "after", attempt=attempt), zombie.finish(run, lines=1, attempt=attempt)):
            assert is_problem(answer, 409)["code"] == "run_not_yours"
    enqueue(run, now=database_now())
    assert heir.claimed() == [run]
    assert is_problem(zombie.finish(run, attempt=2), 409)["code"] == "run_not_yours"
    assert is_problem(zombie.beat((run, 1)), 409)["code"] == "lease_lost"
    assert heir.finish(run, attempt=2).json() == {"state": "succeeded"}
    assert texts(run) == ["before"]


def test_an_earlier_attempt_cannot_speak_for_the_one_that_the_same_worker_has_now():
    agent = registered()
    (run,) = queued(retry_count=1, retry_delay_seconds=0)
    agent.claimed()
    agent.finish(run, exit_code=1)
    enqueue(run, now=database_now())
    assert agent.claimed() == [run]
    for answer in (agent.log(run, 0, "late"), agent.finish(run)):
        assert is_problem(answer, 409)["code"] == "run_not_yours"
    assert run_row(run).attempt == 2 and state_of(run) == RunState.RUNNING
    assert agent.log(run, 0, "now", attempt=2).json() == {"next_offset": 1}


def test_a_worker_cannot_speak_for_the_run_of_another_that_came_with_the_same_key():
    token = make_key()[1]
    agent, other = registered(token), registered(token)
    (run,) = queued()
    assert agent.claimed() == [run]
    for answer in (other.log(run, 0, "x"), other.finish(run)):
        assert is_problem(answer, 409)["code"] == "run_not_yours"
    assert state_of(run) == RunState.RUNNING and texts(run) == []


def test_an_end_that_is_repeated_changes_nothing():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    agent.finish(run)
    events = RunEvent.objects.filter(run=run).count()
    assert is_problem(agent.finish(run, exit_code=1), 409)["code"] == "run_not_yours"
    assert state_of(run) == RunState.SUCCEEDED and RunEvent.objects.filter(run=run).count() == events


def test_an_end_without_exit_code_and_without_failure_is_refused():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    is_problem(agent.finish(run, exit_code=None), 400, "exit_code")
    assert state_of(run) == RunState.RUNNING


def test_a_run_that_was_cancelled_before_it_was_claimed_is_not_given_out():
    agent = registered()
    (run,) = queued()
    transitions.cancel_unstarted([run], now=database_now(), actor=ACTOR)
    assert agent.claimed() == []


@pytest.mark.parametrize("id", [10**6, 2**63, 10**30])
def test_a_run_that_is_not_there_is_not_ones_own(id):
    agent = registered()
    for answer in (agent.log(id, 0, "x"), agent.finish(id)):
        assert is_problem(answer, 409)["code"] == "run_not_yours"


@pytest.mark.parametrize(
    "body",
    [
        {"running": [{"run": 2**63, "attempt": 1}]},
        {"running": [{"run": 1}]},
        {"running": [[1, 1]]},
        {"running": "x"},
        {"running": [], "cpu_percent": 101},
        {"running": [], "cpu_percent": "5"},
        {"running": [], "memory_bytes": 2**63},
        {"running": [], "draining": "yes"},
        {},
    ],
)
def test_a_beat_that_makes_no_sense_renews_nothing(body):
    agent = registered()
    end_lease(agent)
    is_problem(agent.post(f"/{agent.id}/heartbeat", **body), 400)
    assert row(agent).lease_until < database_now()


def test_a_line_may_be_of_any_age_and_hold_any_text():
    agent = registered()
    (run,) = queued()
    agent.claimed()
    raw = b'{"attempt": 1, "offset": 0, "lines": [[1e300, "stdout", "\xf0\x9f\x8e\x89"], [-5, "stderr", ""]]}'
    path = f"/api/workers/{agent.id}/runs/{run}/log"
    answer = agent.client.generic("POST", path, raw, content_type="application/json")
    assert answer.json() == {"next_offset": 2}
    assert texts(run) == ["\U0001f389", ""]


def test_the_more_agents_there_are_the_less_often_each_of_them_asks(settings):
    settings.SCHEDULER_AGENT_POLL_SECONDS = 1
    key, token = make_key()
    agent = registered(token)
    assert agent.beat().json()["poll_seconds"] == 1
    for _ in range(99):
        make_worker(key=key, executors=["shell"])
    make_worker(key=key, executors=["shell"], state="offline")
    assert agent.beat().json()["poll_seconds"] == 2


def test_the_pace_follows_the_runtime_setting_without_a_restart():
    agent = registered()
    runtime_services.change(system_actor(), {"agent_poll_seconds": 7, "kill_grace_seconds": 3}, now=database_now())
    queued()
    answer = agent.claim().json()
    assert (answer["poll_seconds"], answer["runs"][0]["kill_grace_seconds"]) == (7, 3)
