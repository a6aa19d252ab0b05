"""The day of a task: the sum, the hours, the answers, and the way from one day to the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_app.actors import system_actor
from dispatcher_app.firing import fire_due
from tasks_app.models import Run
from tasks_app.services import schedules
from tasks_app.states import RunState
from tests.console_app.factories import make_task
from tests.tasks_app.making import bring

YESTERDAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def schedule(task):
    """Every ten minutes of yesterday until noon: late for the first hours, then on time, one skipped, one gone."""
    end = YESTERDAY + 12 * HOUR
    fields = {"expression": "*/10 * * * *", "catch_up": "none", "end_at": end - MINUTE}
    made = schedules.create(system_actor(), task, fields, now=YESTERDAY - MINUTE)
    fire_due(YESTERDAY + 10 * HOUR, actor="test")
    for step in range(1, 13):
        fire_due(YESTERDAY + 10 * HOUR + 10 * step * MINUTE, actor="test")
    runs = list(Run.objects.order_by("nominal_at").values_list("pk", flat=True))
    bring(runs[3], RunState.SKIPPED)
    Run.objects.filter(pk=runs[3]).update(reason="overlap")
    Run.objects.filter(pk=runs[5]).delete()
    return made


def address(task, **query):
    return f"/tasks/{task.pk}/fires/?" + "&".join(f"{name}={value}" for name, value in query.items())


def test_the_day_is_one_sum_that_adds_up(as_bob, task, schedule):
    page = as_bob.get(address(task, day=YESTERDAY.date())).text
    late = "55 missed beyond the catch-up window + 5 missed without catching up"
    assert f"72 expected = 10 ran + 1 skipped by overlap + {late} + 1 unanswered" in page
    assert f"?day={YESTERDAY.date() - timedelta(days=1)}" in page
    assert f"?day={YESTERDAY.date() + timedelta(days=1)}" in page
    assert page.count('title="') >= 24


def test_an_answer_or_an_hour_alone_is_shown_with_links_to_its_runs(as_bob, task, schedule):
    skipped = Run.objects.get(state="skipped")
    page = as_bob.get(address(task, day=YESTERDAY.date(), answer="skipped")).text
    assert f'href="/runs/{skipped.pk}/"' in page and page.count('class="fit mono lead"') == 1
    page = as_bob.get(address(task, day=YESTERDAY.date(), hour=11)).text
    assert page.count('class="fit mono lead"') == 6 and "11:00–12:00 only" in page
    assert " 09:50:00+00:00" not in page


def test_a_long_day_goes_on_on_the_next_page(as_bob, task):
    schedules.create(system_actor(), task, {"expression": "* * * * *", "catch_up": "none"}, now=YESTERDAY - MINUTE)
    fire_due(YESTERDAY + 24 * HOUR, actor="test")
    url, seen = address(task, day=YESTERDAY.date()), []
    while url:
        response = as_bob.get(url)
        seen += [row["local"] for row in response.context["rows"]]
        url = f"/tasks/{task.pk}/fires/?{response.context['next']}" if response.context["next"] else None
    assert len(seen) == 1440 == len(set(seen))


def test_the_page_costs_the_same_for_a_busy_day_as_for_a_quiet_one(as_bob, task, project):
    quiet = make_task(project, "quiet")
    schedules.create(system_actor(), quiet, {"expression": "0 12 * * *"}, now=YESTERDAY - MINUTE)
    schedules.create(system_actor(), task, {"expression": "* * * * *", "catch_up": "none"}, now=YESTERDAY - MINUTE)
    fire_due(YESTERDAY + 24 * HOUR, actor="test")
    costs = []
    for one in (quiet, task):
        with CaptureQueriesContext(connection) as captured:
            as_bob.get(address(one, day=YESTERDAY.date()))
        costs.append(len(captured))
    assert costs[1] <= costs[0]


@pytest.mark.parametrize("query", [{"day": "yesterday"}, {"day": "0001-01-01"}, {"after": "x"}, {"schedule": 999999}])
def test_an_address_that_means_nothing_is_not_found(as_bob, task, schedule, query):
    assert as_bob.get(address(task, **query)).status_code == 404


def test_a_task_without_a_schedule_says_so(as_bob, task):
    assert "No schedule" in as_bob.get(address(task)).text


def test_the_page_of_the_task_leads_there(as_bob, task):
    assert f'href="/tasks/{task.pk}/fires/"' in as_bob.get(f"/tasks/{task.pk}/").text
