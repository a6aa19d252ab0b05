"""Reads that doors and dispatcher share: what an actor sees, counts, outcomes, output."""

from __future__ import annotations

from typing import Any

import pytest

from access_app.actors import system_actor, user_actor
from tasks_app import queries, run_output
from tasks_app.errors import NotFound
from tasks_app.filters import RunFilter
from tasks_app.models import Run, RunOutput, Schedule, Task
from tasks_app.states import RunState
from tests.tasks_app.making import NOW, bring, depend, make_schedule, make_task, plan, start
from tests.tasks_app.plans import indexes, plans_of, scanned_tables

pytestmark = pytest.mark.django_db


def test_each_actor_sees_the_rows_of_its_projects(project, alice, charlie, root_user):
    mine, foreign = make_task("mine", project=project), make_task("foreign")
    for task in (mine, foreign):
        plan(task)
        make_schedule(task, after=NOW)
    depend(mine, foreign)
    for actor, names in (
        (user_actor(alice), {"mine"}),
        (user_actor(charlie), set()),
        (user_actor(root_user), {"mine", "foreign"}),
        (system_actor(), {"mine", "foreign"}),
    ):
        assert set(queries.tasks_visible_to(actor).values_list("name", flat=True)) == names
        assert {run.task.name for run in queries.runs_visible_to(actor)} == names
        assert {row.task.name for row in queries.schedules_visible_to(actor)} == names
        assert queries.dependencies_visible_to(actor).count() == (len(names) == 2)


@pytest.mark.parametrize("key", [0, -1, 2**63, 10**30, "x", "", "²", "1.5", None])
def test_a_key_that_no_row_can_have_is_no_row(key):
    with pytest.raises(NotFound):
        queries.get_visible(Task.objects.all(), key)


def test_a_row_is_found_by_its_key(project, charlie):
    task = make_task(project=project)
    assert queries.get_visible(Task.objects.all(), task.pk) == task
    assert queries.get_visible(Task.objects.all(), str(task.pk)) == task
    with pytest.raises(NotFound):
        queries.get_visible(queries.tasks_visible_to(user_actor(charlie)), task.pk)


def test_counts_name_every_state():
    ids = plan(make_task(), 4)
    bring(ids[0], RunState.FAILED)
    bring(ids[1], RunState.RUNNING)
    counts = queries.counts_by_state(Run.objects.all())
    assert set(counts) == set(RunState)
    assert {state: n for state, n in counts.items() if n} == {"failed": 1, "running": 1, "waiting": 2}


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_last_outcomes_of_many_tasks_come_newest_first(count, django_assert_num_queries):
    first, second, empty = make_task(), make_task(), make_task()
    expected: dict[int, list[tuple[int, str]]] = {}
    for task, number in ((first, 3), (second, 1), (first, 1)):
        for id in plan(task, number):
            bring(id, RunState.SUCCEEDED if id % 2 else RunState.SKIPPED)
            expected.setdefault(task.pk, []).insert(0, (id, "succeeded" if id % 2 else "skipped"))
    plan(make_task())
    with django_assert_num_queries(1):
        found = queries.last_outcomes([first.pk, second.pk, empty.pk], count=count)
    assert found == {task: outcomes[:count] for task, outcomes in expected.items()}


@pytest.mark.postgresql
def test_the_last_outcomes_are_found_by_the_index_of_a_tasks_runs():
    tasks = [make_task() for _ in range(5)]
    for task in tasks:
        plan(task, 2000)
    (found,) = plans_of(lambda: queries.last_outcomes([task.pk for task in tasks], count=10))
    assert indexes(found) == {"run_of_task"}
    assert "tasks_app_run" not in scanned_tables(found)


def test_the_next_fires_leave_out_what_does_not_fire():
    soon, late = make_schedule(after=NOW), make_schedule(after=NOW, expression="0 * * * *")
    make_schedule(after=NOW, enabled=False)
    make_schedule(make_task(paused=True), after=NOW)
    found = queries.upcoming_fires(Task.objects.all(), now=NOW, count=5)
    assert [row.pk for row in found] == [soon.pk, late.pk]
    assert queries.upcoming_fires(Task.objects.filter(pk=late.task_id), now=NOW, count=5) == [late]
    assert queries.upcoming_fires(Task.objects.all(), now=NOW, count=1) == [soon]
    assert Schedule.objects.count() == 4


def write(run_id: int, attempt: int, first: int, texts: list[str], **fields: Any) -> None:
    lines = [["2026-03-02T12:00:00Z", "stdout", text] for text in texts]
    RunOutput.objects.create(
        run_id=run_id, attempt=attempt, first_line=first, line_count=len(lines), lines=lines, **fields
    )


def test_output_is_read_by_line_across_batches_and_by_attempt():
    (id,) = plan(make_task())
    start(id)
    run = Run.objects.get(pk=id)
    write(id, 1, 0, ["a", "b", "c"])
    write(id, 1, 3, ["d", "e"], truncated=True)
    write(id, 2, 0, ["other attempt"])
    for offset, limit, expected in ((0, 9, "abcde"), (1, 3, "bcd"), (4, 9, "e"), (5, 9, "")):
        lines, following = run_output.log_lines(run, offset=offset, limit=limit)
        assert "".join(line["text"] for line in lines) == expected
        assert [line["n"] for line in lines] == list(range(offset, offset + len(expected)))
        assert following == offset + len(expected)
    assert run_output.log_truncated(run)
    assert not run_output.log_truncated(run, attempt=2)


def test_a_run_that_waits_for_a_retry_shows_the_attempt_that_ended():
    run = Run(attempt=3, state=RunState.WAITING.value)
    assert run_output.shown_attempt(run) == 2
    run.state = RunState.RUNNING.value
    assert run_output.shown_attempt(run) == 3
    assert run_output.shown_attempt(Run(attempt=1, state=RunState.WAITING.value)) == 1


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "abc"),
        ({"state": ["failed"]}, "a"),
        ({"state": ["failed", "waiting"]}, "ab"),
        ({"task_name": "SECOND"}, "c"),
        ({"run_type": "manual"}, "abc"),
        ({"run_type": "scheduled"}, ""),
        ({"created_after": NOW.isoformat()}, "abc"),
        ({"created_before": NOW.isoformat()}, ""),
    ],
)
def test_a_filter_finds_what_it_names(asked, found):
    first, second = make_task("the first"), make_task("the second")
    ids = dict(zip("abc", [*plan(first, 2), *plan(second)], strict=True))
    bring(ids["a"], RunState.FAILED)
    bring(ids["c"], RunState.RUNNING)
    chosen = RunFilter(asked, queryset=Run.objects.all())
    assert chosen.is_valid()
    assert {run.pk for run in chosen.qs} == {ids[letter] for letter in found}


@pytest.mark.parametrize("asked", [{"state": ["happy"]}, {"task": "x"}, {"task": 2**63}, {"created_after": "soon"}])
def test_a_filter_that_makes_no_sense_says_so(asked):
    assert not RunFilter(asked, queryset=Run.objects.all()).is_valid()
