"""manage.py backfill: plan, list, wait."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from access_app.management.progress import ProgressBar, bar
from tasks_app.models import Backfill, Run
from tasks_app.services import schedules
from tasks_app.states import RunState
from tests.tasks_app.command_line import ACTOR, make_task, refused, run_command
from tests.tasks_app.making import bring

pytestmark = pytest.mark.django_db
STRETCH = ("--from", "2026-03-01", "--to", "2026-03-02T12:00")


@pytest.fixture
def schedule():
    fields = {"expression": "0 */12 * * *", "time_zone": "Europe/Berlin"}
    return schedules.create(ACTOR, make_task("daily"), fields, now=timezone.now())


def test_it_plans_the_instants_in_the_zone_of_the_schedule(schedule):
    out = run_command("backfill", "daily", *STRETCH, "--max-concurrent", "3", "--order", "newest", "--param", "x=1")
    made = Backfill.objects.get()
    assert out == f"Backfill {made.pk}: 4 runs of daily are planned.\n"
    assert (made.max_concurrent, made.newest_first, made.params) == (3, True, {"x": 1})
    assert made.start_at.isoformat() == "2026-02-28T23:00:00+00:00"


def test_a_dry_run_lists_them_and_stores_nothing(schedule):
    lines = run_command("backfill", "daily", *STRETCH, "--dry-run").splitlines()
    assert lines[0] == "2026-03-01 00:00:00+0100  planned"
    assert lines[-1] == "4 of 4 instants would get a run." and len(lines) == 5
    answer = json.loads(run_command("backfill", "daily", *STRETCH, "--dry-run", "--json"))
    assert (answer["planned"], len(answer["instants"])) == (4, 4)
    assert Backfill.objects.count() == 0 == Run.objects.count()


def test_json_is_the_backfill_as_the_api_answers_it(schedule):
    answer = json.loads(run_command("backfill", "daily", *STRETCH, "--json"))
    assert (answer["total"], answer["state"], answer["runs"]["waiting"]) == (4, "active", 4)


@pytest.mark.parametrize(("last", "code"), [(RunState.SUCCEEDED, 0), (RunState.FAILED, 1)])
def test_waiting_ends_with_the_last_run_and_tells_how_it_went(schedule, naps, last, code):
    def over(count: int, state: RunState) -> None:
        for pk in Run.objects.filter(state="waiting").order_by("pk").values_list("pk", flat=True)[:count]:
            bring(pk, state)

    naps.extend([lambda: over(3, RunState.SUCCEEDED), lambda: over(1, last)])
    if code:
        with pytest.raises(CommandError) as failed:
            call_command("backfill", "daily", *STRETCH, "--wait", stdout=StringIO())
        assert failed.value.returncode == 1 and "1 failed" in str(failed.value)
    else:
        run_command("backfill", "daily", *STRETCH, "--wait")
    assert naps == []


def test_what_cannot_be_is_refused(schedule):
    for arguments in (
        ("--from", "yesterday", "--to", "2026-03-01"),
        ("--from", "2026-03-02", "--to", "2026-03-01"),
        ("--from", "2026-03-01", "--to", "0001-01-01"),
        (*STRETCH, "--schedule", "999999"),
        (*STRETCH, "--max-concurrent", "0"),
    ):
        assert refused("backfill", "daily", *arguments).returncode == 2
    schedules.create(ACTOR, schedule.task, {"expression": "0 1 * * *"}, now=timezone.now())
    assert "several schedules" in str(refused("backfill", "daily", *STRETCH))
    assert Backfill.objects.count() == 0


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True

    def write(self, text: str, style_func: Any = None, ending: str = "\n") -> int:
        return super().write((style_func or str.upper)(text) + ending)


def test_the_progress_bar_draws_over_its_line_on_a_terminal_and_is_silent_elsewhere():
    screen, file = Terminal(), StringIO()
    for stream in (screen, file):
        progress = ProgressBar(stream, 8)
        progress.show(2, "2 succeeded")
        progress.show(8)
        progress.end()
    assert screen.getvalue() == f"\r\x1b[K[{'#' * 8}{'-' * 24}]  25 % 2/8 2 succeeded\r\x1b[K[{'#' * 32}] 100 % 8/8 \n"
    assert file.getvalue() == "" and bar(0, 0).startswith("[-")
