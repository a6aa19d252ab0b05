"""Macros in parameters, as a worker fills them in: from upstream outputs, times and the run itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from tasks_app import transitions
from tasks_app.errors import InvalidInput
from tasks_app.models import Project, Run, Task, TaskVersion
from tasks_app.services import runs, tasks
from tasks_app.states import RunState
from tests.tasks_app.clock import at
from tests.tasks_app.making import (
    ACTOR,
    NOW,
    default_pool,
    depend,
    end,
    enqueue,
    make_schedule,
    make_task,
    member,
    plan,
    start,
)
from workers_app import execution as execution_module
from workers_app.execution import Execution
from workers_app.jobs import Control, Job, Result
from workers_app.output import OutputSink
from workers_app.parameters import fill_in

SYSTEM = system_actor()
WORKER = uuid4()


def claim(*ids: int) -> tuple[dict[int, dict[str, Any]], dict[int, Result]]:
    """What a worker that claims the runs makes of their parameters."""
    enqueue(*ids)
    pairs = list(Run.objects.filter(pk__in=ids).values_list("pk", "attempt"))
    claimed = transitions.claim(pairs, worker_id=WORKER, now=NOW, actor=ACTOR)
    assert len(claimed) == len(ids)
    versions = TaskVersion.objects.select_related("task__project").in_bulk({run.version_id for run in claimed})
    return fill_in(claimed, versions)


def filled(id: int) -> dict[str, Any]:
    params, failed = claim(id)
    assert not failed
    return params[id]


def below(params: dict[str, Any], output: Any = None, *, upstream: str = "load", **fields: Any) -> int:
    """The run of a task with these parameters, below a run of the task `upstream` that succeeded with the output."""
    up, down = make_task(upstream), make_task("report", params=params, **fields)
    depend(up, down)
    (root,) = plan(up, nominal_at=at("2026-03-01T23:30Z"))
    start(root)
    end(root, output=output)
    return member(root, down).pk


@pytest.mark.django_db
def test_parameters_take_the_output_of_the_run_above_and_the_facts_of_the_run():
    id = below(
        {
            "rows": "{{ upstream.load.rows }}",
            "text": "{{ upstream.load.rows }} rows of {{ params.region }} on {{ nominal_date }}",
            "deep": [{"at": "{{ nominal_time }}"}],
            "run": "{{ run.id }}/{{ run.attempt }}/{{ run.type }}",
            "task": "{{ task.project }}.{{ task.name }}",
            "region": "eu",
        },
        {"rows": 42},
    )
    assert filled(id) == {
        "rows": 42,
        "text": "42 rows of eu on 2026-03-01",
        "deep": [{"at": "2026-03-01T23:30:00Z"}],
        "run": f"{id}/1/upstream",
        "task": "default.report",
        "region": "eu",
    }


@pytest.mark.django_db
def test_a_name_that_is_no_word_stands_in_brackets():
    assert filled(below({"x": '{{ upstream["load.v2 data"].rows }}'}, {"rows": 7}, upstream="load.v2 data")) == {"x": 7}


@pytest.mark.django_db
def test_a_run_overrides_single_parameters_and_its_macros_count():
    task = make_task(params={"day": "{{ nominal_date }}", "note": "{{ params.who }}", "who": "nobody"})
    (id,) = plan(task, params={"who": "alice", "day": "2020-01-01"})
    assert filled(id) == {"day": "2020-01-01", "note": "alice", "who": "alice"}


@pytest.mark.django_db
def test_the_date_is_that_of_the_schedules_zone_for_its_run_what_is_below_it_and_their_reruns(settings):
    settings.SCHEDULER_TIME_ZONE = "UTC"
    up, down = make_task(params={"day": "{{ nominal_date }}"}), make_task(params={"day": "{{ nominal_date }}"})
    depend(up, down)
    schedule = make_schedule(up, after=NOW, time_zone="Asia/Shanghai")
    nominal = at("2026-03-01T20:00Z")
    (root,) = plan(up, schedule_id=schedule.pk, nominal_at=nominal)
    (by_hand,) = plan(up, nominal_at=nominal)
    (again,) = plan(up, nominal_at=nominal, rerun_of_id=root)
    (below_again,) = plan(down, nominal_at=nominal, rerun_of_id=member(root, down).pk)
    params, failed = claim(root, member(root, down).pk, by_hand, again, below_again)
    assert not failed
    days = [params[id]["day"] for id in (root, member(root, down).pk, again, below_again, by_hand)]
    assert days == ["2026-03-02"] * 4 + ["2026-03-01"]


@pytest.mark.django_db
def test_of_two_upstream_tasks_of_one_name_that_of_the_own_project_counts():
    for foreign_first in (True, False):
        foreign = Project.objects.create(name=f"foreign {foreign_first}")
        name = f"load {foreign_first}"
        own, other = make_task(name), make_task(name, project=foreign)
        root_task, down = make_task(), make_task(params={"x": f'{{{{ upstream["{name}"].from }}}}'})
        for task in (other, own) if foreign_first else (own, other):
            depend(root_task, task, down)
        (root,) = plan(root_task)
        for task, said in ((own, "own"), (other, "other")):
            start(member(root, task).pk)
            end(member(root, task).pk, output={"from": said})
        assert filled(member(root, down).pk) == {"x": "own"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("params", "output", "reason", "words"),
    [
        ({"x": "{{ upstream.load.count }}"}, {"rows": 1}, "invalid_macro", "upstream.load.count is unknown"),
        (
            {"x": "{{ upstream.extract.rows }}"},
            {"rows": 1},
            "invalid_macro",
            "upstream.extract.rows is unknown; there are upstream.load.",
        ),
        ({"x": "{{ upstream.load.rows }}"}, None, "invalid_macro", "upstream.load is a single value"),
        ({"x": "a {{ upstream.load }}"}, {"rows": 1}, "invalid_macro", "upstream.load"),
        ({"x": "{{ params.y }}"}, None, "invalid_macro", "params.y is unknown"),
        (
            {"x": "{{ upstream.load }}", "y": "{{ upstream.load }}"},
            {"t": "z" * 65_000},
            "invalid_parameters",
            "120 KiB",
        ),
    ],
)
def test_a_run_whose_macros_cannot_be_replaced_fails_for_good(params, output, reason, words):
    id, other = below(params, output), plan(make_task(params={"x": "{{ run.id }}"}))[0]
    found, failed = claim(id, other)
    assert found[other] == {"x": other}
    assert failed.keys() == {id}
    result = failed[id]
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, reason, False)
    assert words in result.detail


@pytest.mark.django_db
def test_what_does_not_fit_the_executor_once_replaced_is_refused():
    up, down = make_task("load"), make_task(executor="http", command="http://x/", params={"headers": {"X-Rows": ""}})
    TaskVersion.objects.filter(task=down).update(params={"headers": {"X-Rows": "{{ upstream.load.rows }}"}})
    depend(up, down)
    (root,) = plan(up)
    start(root)
    end(root, output={"rows": 5})
    id = member(root, down).pk
    _params, failed = claim(id)
    assert failed[id].reason == "invalid_parameters" and "headers/X-Rows" in failed[id].detail


@pytest.mark.django_db
def test_a_batch_is_read_at_once_and_runs_without_macros_ask_nothing():
    def statements(number: int, params: dict[str, Any]) -> int:
        up, down = make_task(), make_task(params=params)
        depend(up, down)
        roots = plan(up, number)
        start(*roots)
        for id in roots:
            end(id)
        ids = [member(id, down).pk for id in roots]
        enqueue(*ids)
        claimed = transitions.claim([(id, 1) for id in ids], worker_id=WORKER, now=NOW, actor=ACTOR)
        specs = TaskVersion.objects.select_related("task__project").in_bulk({run.version_id for run in claimed})
        with CaptureQueriesContext(connection) as captured:
            _params, failed = fill_in(claimed, specs)
        assert not failed
        return len(captured)

    assert statements(30, {"x": "{{ run.id }}"}) == statements(2, {"x": "{{ run.id }}"}) == 2
    assert statements(2, {"x": "plain"}) == 0


# Through a worker


@pytest.fixture
def worker() -> Iterator[Execution]:
    made = Execution(worker_id=WORKER, actor="worker test", ring=lambda _batch: None)
    yield made
    made.close()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    jobs: list[Job] = []

    def execute(job: Job, _control: Control, sink: OutputSink) -> Result:
        jobs.append(job)
        sink.close()
        return Result(RunState.SUCCEEDED)

    monkeypatch.setattr(execution_module, "implementation", lambda _name: execute)
    return jobs


@pytest.mark.django_db(transaction=True)
def test_a_worker_executes_with_what_came_of_the_macros_and_never_changes_the_command(worker, seen):
    id = below({"rows": "{{ upstream.load.rows }}"}, {"rows": 3}, executor="shell", command="echo {{ run.id }}")
    enqueue(id)
    worker.execute([(id, 1)], "default")
    assert (seen[0].params, seen[0].command) == ({"rows": 3}, "echo {{ run.id }}")
    run = Run.objects.get(pk=id)
    assert (run.state, run.params) == (RunState.SUCCEEDED, {})


@pytest.mark.django_db(transaction=True)
def test_a_run_with_a_bad_macro_fails_at_once_and_is_not_tried_again(worker, seen):
    id = below({"x": "{{ upstream.load.rows }}"}, {"count": 3}, executor="shell", command="true", retry_count=5)
    enqueue(id)
    worker.execute([(id, 1)], "default")
    run = Run.objects.get(pk=id)
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "invalid_macro", 1)
    assert "upstream.load.rows is unknown; there are upstream.load.count." in run.reason_detail
    assert seen == [] and worker.active == {}


@pytest.mark.django_db(transaction=True)
def test_in_a_pack_only_the_run_with_the_bad_macro_fails(worker):
    task = make_task(command="workers_app.samples.echo", params={"text": "{{ params.word }}"})
    good, bad, also_good = plan(task, params={"word": "a"}) + plan(task) + plan(task, params={"word": "b"})
    enqueue(good, bad, also_good)
    # Known to be short: the three are claimed and executed as one pack.
    worker._typical[task.version_id or 0] = 0.001
    worker.execute([(good, 1), (bad, 1), (also_good, 1)], "default")
    states = dict(Run.objects.values_list("pk", "state"))
    assert [states[id] for id in (good, bad, also_good)] == [RunState.SUCCEEDED, RunState.FAILED, RunState.SUCCEEDED]


# Saving and asking


def fields(**values: Any) -> dict[str, Any]:
    project = Project.objects.get(name="default")
    given = {"name": "t", "project": project, "pool": default_pool(), "executor": "shell", "command": "true"}
    return {**given, **values}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"x": "{{ run.id"}, "closes"),
        ({"x": ["{{ 1 + 1 }}"]}, "is no name"),
        ({"x": "{{ upstreams.load }}"}, "The macro upstreams is unknown"),
        ({"x": "{{ nominal }}"}, "there are nominal_date, nominal_time, params, run, task, upstream"),
    ],
)
def test_a_macro_that_cannot_be_read_is_refused_when_it_is_saved_or_asked_for(params, words):
    with pytest.raises(InvalidInput) as caught:
        tasks.create(SYSTEM, fields(params=params), now=NOW)
    assert words in caught.value.errors["params"][0]
    task: Task = tasks.create(SYSTEM, fields(params={"x": '{{ upstream["a b"].c }} {{ "{{" }}'}), now=NOW)
    with pytest.raises(InvalidInput) as caught:
        tasks.update(SYSTEM, task, {"params": params}, now=NOW)
    assert words in caught.value.errors["params"][0]
    with pytest.raises(InvalidInput) as caught:
        runs.trigger(SYSTEM, task, runs.Request(params=params), now=NOW)
    assert words in caught.value.errors["params"][0]
    assert not Run.objects.exists()
