"""`manage.py prune_history`: the runs that ended long ago go, batch by batch, and every invariant holds."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from monitoring_app.history import prune_runs
from monitoring_app.invariants import check_invariants
from tasks_app.models import Run
from tasks_app.rowset import database_now
from tasks_app.states import RunState
from tests.tasks_app.making import NOW, bring, later, make_task, plan

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def ended(at: timedelta) -> int:
    (id,) = plan(make_task(), now=NOW + at)
    bring(id, RunState.SUCCEEDED, now=NOW + at)
    return id


def test_only_what_ended_before_is_deleted_whatever_the_size_of_the_batches():
    old = [ended(n * DAY) for n in range(5)]
    (waiting,) = plan(make_task())
    late = plan(make_task())
    bring(late[0], RunState.SUCCEEDED, now=later(days=20))
    young = [ended(n * DAY) for n in (10, 11)]
    steps = list(prune_runs(later(days=5), batch=2))
    assert [one.deleted for one in steps] == [2, 4, 5, 5]
    assert [one.share for one in steps] == sorted(one.share for one in steps) and steps[-1].share == 1
    assert set(Run.objects.values_list("pk", flat=True)) == {waiting, *late, *young}
    assert not set(old) & set(Run.objects.values_list("pk", flat=True))
    assert check_invariants(later(days=21), since=None) == []


def test_the_command_counts_days_from_now_and_says_how_many_it_deleted():
    today = database_now() - NOW
    old, young = ended(today - 31 * DAY), ended(today - 29 * DAY)
    out = StringIO()
    call_command("prune_history", "--days", "30", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"deleted": 1}
    assert list(Run.objects.values_list("pk", flat=True)) == [young] and old != young
    out = StringIO()
    call_command("prune_history", "--days", "30", stdout=out)
    assert "Runs deleted: 0." in out.getvalue()


@pytest.mark.parametrize("days", ["0", "-1", "4000"])
def test_a_time_that_cannot_be_meant_is_refused(days):
    ended(-5000 * DAY)
    with pytest.raises(CommandError) as error:
        call_command("prune_history", "--days", days)
    assert error.value.returncode == 2 and Run.objects.count() == 1
