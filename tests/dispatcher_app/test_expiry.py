"""A run that has not started by its deadline is over, wherever it waits."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dispatcher_app.expiry import expire
from tasks_app import transitions
from tasks_app.models import Run
from tasks_app.moves import Outcome
from tasks_app.states import Reason, RunState
from tests.tasks_app.making import (
    ACTOR,
    ANSWERED,
    NOW,
    bring,
    depend,
    events_of,
    later,
    make_task,
    member,
    plan,
    start,
    state_of,
)
from tests.tasks_app.plans import indexes, plans_of

pytestmark = pytest.mark.django_db


def deadline(*ids: int, at=NOW) -> None:
    Run.objects.filter(pk__in=ids).update(expires_at=at)


def test_waiting_runs_expire_at_their_deadline_behind_any_gate():
    ready, held, soon, free, queued, running = plan(make_task(), 6)
    up, down = make_task(), make_task()
    depend(up, down)
    (root,) = plan(up)
    below = member(root, down).pk
    (paused,) = plan(make_task(paused=True))
    bring(queued, RunState.QUEUED)
    start(running)
    Run.objects.filter(pk=held).update(held=True)
    deadline(ready, held, below, paused, queued, running)
    deadline(soon, at=later(seconds=1))
    assert expire(NOW, actor=ACTOR) == 4
    assert {state_of(id) for id in (ready, held, below, paused)} == {RunState.EXPIRED}
    assert [state_of(id) for id in (soon, free, queued, running)] == ["waiting", "waiting", "queued", "running"]
    run = Run.objects.get(pk=ready)
    assert (run.reason, run.finished_at) == (Reason.START_DEADLINE, NOW)
    assert "2026-03-02 12:00:30 UTC" in run.reason_detail
    assert events_of(ready)[-1] == ("waiting", "expired", 1)
    assert expire(NOW, actor=ACTOR) == 0


def test_a_retry_has_started_before_and_does_not_expire():
    (id,) = plan(make_task())
    start(id)
    deadline(id)
    failed = Outcome(id, 1, RunState.WAITING, retry_at=later(seconds=10))
    assert transitions.finish([failed], worker_id=ANSWERED, now=NOW, actor=ACTOR) == {id}
    assert expire(later(hours=1), actor=ACTOR) == 0


def test_a_thousand_take_as_many_statements_as_two_and_no_more_than_the_limit_go_at_once():
    def statements(number: int) -> int:
        deadline(*plan(make_task(), number))
        with CaptureQueriesContext(connection) as captured:
            assert expire(NOW, actor=ACTOR) == number
        return len(captured)

    assert statements(2) == statements(1000)
    deadline(*plan(make_task(), 5))
    assert [expire(NOW, actor=ACTOR, limit=3), expire(NOW, actor=ACTOR, limit=3)] == [3, 2]


@pytest.mark.postgresql
def test_they_are_found_by_the_index_of_deadlines():
    plan(make_task(), 3000)
    deadline(*plan(make_task(), 3), at=later(seconds=-1))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    look, *_ = plans_of(lambda: expire(NOW, actor=ACTOR))
    assert "run_expiring" in indexes(look)
