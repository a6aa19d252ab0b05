"""Edges between tasks: what is refused at which field, which cycles are none, what is kept in the audit trail."""

from __future__ import annotations

from typing import Any

import pytest

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app.errors import DependencyCycle, InvalidInput, NotFound
from tasks_app.models import TaskDependency
from tasks_app.services import dependencies
from tests.tasks_app.making import NOW, depend, make_task

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


def edge_of(**fields: Any) -> TaskDependency:
    return dependencies.create(SYSTEM, make_task("a"), make_task("b"), fields, now=NOW)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"condition": "state = 'failed'"}, "condition", "At character 7"),
        ({"condition": "states == 'failed'"}, "condition", "At character 1"),
        ({"condition": "output.rows > 0 and"}, "condition", "At character 20"),
        ({"condition": "output.rows > 0", "period": "day"}, "condition", "no condition"),
        ({"period": "year"}, "period", "hour, day, week, month"),
        ({"period": "day", "period_policy": "skip"}, "period_policy", "fail, wait"),
        ({"period": "day", "period_back": -1}, "period_back", "0 to 100"),
        ({"period": "day", "period_back": 101}, "period_back", "0 to 100"),
        ({"period_back": 1}, "period_back", "choose one"),
    ],
)
def test_what_is_wrong_is_named_at_its_field(fields, field, words):
    with pytest.raises(InvalidInput) as caught:
        edge_of(**fields)
    assert words in caught.value.errors[field][0]
    assert not TaskDependency.objects.exists()
    edge = dependencies.create(SYSTEM, make_task(), make_task(), now=NOW)
    with pytest.raises(InvalidInput) as caught:
        dependencies.update(SYSTEM, edge, fields, now=NOW)
    assert words in caught.value.errors[field][0]
    edge.refresh_from_db()
    assert (edge.condition, edge.period, edge.period_back, edge.period_policy) == ("", "", 0, "wait")


def test_an_edit_changes_what_it_names_and_is_recorded():
    edge, other = edge_of(condition=" output.rows > 0 "), dependencies.create(SYSTEM, make_task(), make_task(), now=NOW)
    assert edge.condition == "output.rows > 0"
    dependencies.update(SYSTEM, edge, {"condition": "state == 'failed'"}, now=NOW)
    edge.refresh_from_db()
    other.refresh_from_db()
    assert (edge.condition, edge.period, other.condition) == ("state == 'failed'", "", "")
    entry = AuditEntry.objects.latest("pk")
    assert (entry.verb, entry.before, entry.after) == (
        "update",
        {"condition": "output.rows > 0"},
        {"condition": "state == 'failed'"},
    )


def test_an_edge_that_was_removed_meanwhile_is_not_found():
    edge = edge_of()
    TaskDependency.objects.all().delete()
    with pytest.raises(NotFound):
        dependencies.update(SYSTEM, edge, {"condition": "true"}, now=NOW)


@pytest.mark.parametrize(("back", "closes"), [(0, True), (1, False), (7, False)])
def test_a_way_back_to_an_earlier_period_closes_no_cycle(back, closes):
    a, b, c = make_task("a"), make_task("b"), make_task("c")
    depend(a, b, c)
    fields = {"period": "day", "period_back": back}
    if closes:
        with pytest.raises(DependencyCycle):
            dependencies.create(SYSTEM, c, a, fields, now=NOW)
        assert TaskDependency.objects.count() == 2
    else:
        edge = dependencies.create(SYSTEM, c, a, fields, now=NOW)
        for change in ({"period_back": 0}, {"period": "", "period_back": 0}):
            with pytest.raises(DependencyCycle) as caught:
                dependencies.update(SYSTEM, edge, change, now=NOW)
            assert set(caught.value.details["path"]) == {"a", "b", "c"}
        # What looks back is no part of other cycles either.
        dependencies.create(SYSTEM, make_task("d"), a, now=NOW)


def test_a_task_does_not_wait_for_itself_in_any_period():
    a = make_task("a")
    with pytest.raises(DependencyCycle) as caught:
        dependencies.create(SYSTEM, a, a, {"period": "day", "period_back": 1}, now=NOW)
    assert caught.value.details["path"] == ["a", "a"]
