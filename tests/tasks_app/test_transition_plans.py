"""Claim, finish and their kin find runs by key, whatever the statistics say of the table."""

from __future__ import annotations

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.models import Run
from tasks_app.moves import Outcome
from tasks_app.states import RunState
from tests.tasks_app.making import ACTOR, ANSWERED, NOW, enqueue, make_task, plan
from tests.tasks_app.plans import indexes, plans_of, scanned_tables

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]
BACKLOG = 20_000
PACK = 50


@pytest.fixture(params=["never analysed", "analysed while empty", "analysed"])
def backlog(request):
    """Runs of which all but a few are queued, and statistics of several ages."""
    if request.param == "analysed while empty":
        _execute("ANALYZE tasks_app_run")
    ids = plan(make_task(), BACKLOG)
    enqueue(*ids)
    if request.param == "analysed":
        _execute("ANALYZE tasks_app_run")
    return ids


def _execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_every_move_goes_by_the_primary_key(backlog):
    pack = backlog[100 : 100 + PACK]
    pairs = [(id, 1) for id in pack]

    def live() -> None:
        assert len(transitions.claim(pairs, worker_id=ANSWERED, now=NOW, actor=ACTOR)) == PACK
        retried = [Outcome(id, 1, RunState.WAITING) for id in pack]
        assert len(transitions.finish(retried, worker_id=ANSWERED, now=NOW, actor=ACTOR)) == PACK
        assert len(transitions.enqueue(pack, now=NOW, sweep_at=NOW, actor=ACTOR)) == PACK
        again = [(id, 2) for id in pack]
        assert len(transitions.claim(again, worker_id=ANSWERED, now=NOW, actor=ACTOR)) == PACK
        lost = [Outcome(id, 2, RunState.LOST) for id in pack]
        assert len(transitions.recover(lost, now=NOW, actor=ACTOR)) == PACK

    plans = plans_of(live)
    assert len(plans) == 5
    for found in plans:
        assert indexes(found) == {"tasks_app_run_pkey"}
        assert "tasks_app_run" not in scanned_tables(found)
    assert Run.objects.filter(state=RunState.QUEUED).count() == BACKLOG - PACK


def test_a_cancel_goes_by_the_primary_key(backlog):
    plans = plans_of(lambda: transitions.cancel_unstarted(backlog[:PACK], now=NOW, actor=ACTOR))
    assert [indexes(found) for found in plans] == [{"tasks_app_run_pkey"}] * 2
    assert not any("tasks_app_run" in scanned_tables(found) for found in plans)
