"""Every recorded fact of cron holds in the preview and in firing, not only in the rule itself."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from access_app.actors import system_actor
from dispatcher_app.firing import fire_due
from tasks_app.errors import InvalidInput
from tasks_app.models import LedgerEntry, Run, Schedule, Task
from tasks_app.services import schedules
from tests.tasks_app.clock import at, seconds_taken
from tests.tasks_app.making import ACTOR, make_task

pytestmark = pytest.mark.django_db
FACTS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "cron_vectors.json").read_text())
STRICT = FACTS["strict"]
SECOND = timedelta(seconds=1)


def fields_of(fact: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "cron", "expression": fact["expr"], "time_zone": fact["tz"]}


def expected_of(fact: dict[str, Any]) -> list[datetime]:
    return [at(text) for text in fact["expected"]]


def test_every_fact_holds_in_the_preview():
    wrong = {}
    for fact in STRICT:
        shown = schedules.preview(fields_of(fact), after=at(fact["base"]), count=len(fact["expected"]))
        if [fire["at"] for fire in shown["fires"]] != expected_of(fact):
            wrong[fact["id"]] = shown["fires"]
    assert wrong == {}


def test_every_fact_holds_in_firing():
    """Many at once, as after a long outage: each schedule ends with the last instant of its fact."""
    task = make_task()
    decades: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for fact in STRICT:
        decades[expected_of(fact)[-1].year // 10].append(fact)
    wrong: dict[str, list[datetime | None]] = {}
    for facts in decades.values():
        rows = Schedule.objects.bulk_create(_ending(fact, task) for fact in facts)
        now = max(expected_of(fact)[-1] for fact in facts) + timedelta(days=1)
        assert fire_due(now, actor=ACTOR).schedules == len(facts)
        fired: dict[int | None, list[datetime | None]] = defaultdict(list)
        for schedule_id, nominal_at in Run.objects.order_by("nominal_at").values_list("schedule_id", "nominal_at"):
            fired[schedule_id].append(nominal_at)
        pairs = zip(rows, facts, strict=True)
        wrong |= {fact["id"]: fired[row.pk] for row, fact in pairs if fired[row.pk] != expected_of(fact)}
        Schedule.objects.all().update(enabled=False)
    assert wrong == {}
    assert not LedgerEntry.objects.exists()


def _ending(fact: dict[str, Any], task: Task) -> Schedule:
    row = Schedule(task=task, fired_until=at(fact["base"]), end_at=expected_of(fact)[-1], **fields_of(fact))
    row.catch_up, row.catch_up_window_seconds = "all", 2**31 - 1
    row.next_fire_at = schedules.timing_of(row).next_after(row.fired_until)
    return row


def test_facts_hold_instant_by_instant_too():
    task = make_task()
    for fact in STRICT[::15]:
        schedule = schedules.create(system_actor(), task, fields_of(fact), now=at(fact["base"]))
        for instant in expected_of(fact):
            assert fire_due(instant - SECOND, actor=ACTOR).runs == 0, fact["id"]
            assert fire_due(instant, actor=ACTOR).runs == 1, fact["id"]
        runs = Run.objects.filter(schedule=schedule).order_by("nominal_at")
        assert list(runs.values_list("nominal_at", flat=True)) == expected_of(fact), fact["id"]
        schedule.delete()


@pytest.mark.parametrize("fact", FACTS["invalid"], ids=lambda fact: ascii(fact["expr"])[:40])
def test_what_is_no_cron_is_refused_by_the_preview_at_the_expression(fact):
    with pytest.raises(InvalidInput) as caught:
        schedules.preview({"kind": "cron", "expression": fact["expr"]}, after=at("2026-01-01T00:00:00Z"), count=1)
    assert set(caught.value.errors) == {"expression"}


@pytest.mark.parametrize("fact", FACTS["must_accept"], ids=lambda fact: fact["expr"])
def test_what_crontab_accepts_is_previewed(fact):
    fields = {"kind": "cron", "expression": fact["expr"]}
    assert schedules.preview(fields, after=at("2026-01-01T00:00:00Z"), count=1)["fires"]


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 31 2,4,6,9,11 *",
        "0 0 29 2 1#5",
        ",".join(["1-59/2"] * 40) + " * * * *",
        "59 59 23 31 12 *",
        "0-59/1,1-58,2-57,3-56 0-23/1,1-22,2-21 1-31/1,2-30 1-12/1,2-11 0-7/1,1-6",
        "*/1," * 60 + "* * * * *",
        "H(0-59)/59 H H H H",
        "L L L L L",
        "9" * 250 + " * * * *",
        "* " * 120,
    ],
)
def test_a_hostile_expression_is_answered_under_fifty_milliseconds(expression):
    def ask() -> None:
        try:
            schedules.preview({"kind": "cron", "expression": expression}, after=at("2026-01-01T00:00:00Z"), count=1)
        except InvalidInput as error:
            assert set(error.errors) == {"expression"}

    assert seconds_taken(ask) < 0.05
