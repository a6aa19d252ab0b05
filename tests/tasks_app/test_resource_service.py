"""Resources: made, changed, deleted, their breakers turned by hand, and who may do so."""

from __future__ import annotations

from typing import Any

import pytest

from access_app.actors import system_actor, user_actor
from access_app.models import AuditEntry
from tasks_app.breaker import BreakerState
from tasks_app.errors import InvalidInput, NotFound, PermissionRefused, WrongState
from tasks_app.models import Calendar, Resource, Task, TaskResource
from tasks_app.services import resources
from tests.tasks_app.making import NOW, enqueue, later, make_task, plan, start

pytestmark = pytest.mark.django_db
SYSTEM = system_actor()


def create(name: str = "api", **fields: Any) -> Resource:
    return resources.create_resource(SYSTEM, {"name": name, **fields}, now=NOW)


def used_by(resource: Resource, *, amount: int = 1, **fields: Any) -> Task:
    task = make_task(**fields)
    TaskResource.objects.create(task=task, resource=resource, amount=amount)
    return task


def errors(call: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        call()
    return caught.value.errors


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"capacity": 0}, "capacity"),
    ({"rate_limit": 5}, "rate_window_seconds"),
    ({"rate_window_seconds": 5}, "rate_limit"),
    ({"breaker_failures": 0}, "breaker_failures"),
    ({"breaker_ratio": 0.0}, "breaker_ratio"),
    ({"breaker_ratio": 1.5}, "breaker_ratio"),
    ({"breaker_window": 201}, "breaker_window"),
    ({"breaker_window": 5, "breaker_minimum": 6}, "breaker_minimum"),
    ({"breaker_open_seconds": 60, "breaker_open_seconds_at_most": 59}, "breaker_open_seconds_at_most"),
]


@pytest.mark.parametrize(("fields", "field"), WRONG)
def test_what_makes_no_resource_is_refused_at_its_field_in_a_new_one_and_in_an_edit(fields, field):
    assert errors(lambda: create(**fields)).keys() == {field}
    resource = Resource.objects.create(name="other")
    before = Resource.objects.values().get()
    assert errors(lambda: resources.update_resource(SYSTEM, resource, fields, now=NOW)).keys() == {field}
    assert Resource.objects.values().get() == before


def test_names_are_words_and_unique():
    create()
    assert errors(create).keys() == errors(lambda: create("Not a name")).keys() == {"name"}


def test_a_resource_takes_a_shared_calendar_alone(project):
    shared = Calendar.objects.create(name="nights")
    assert create(calendar=shared).calendar == shared
    own = Calendar.objects.create(name="ours", project=project)
    assert errors(lambda: create("db", calendar=own)).keys() == {"calendar"}


def test_a_capacity_below_what_one_run_takes_is_refused_by_the_name_of_its_task():
    resource = create(capacity=9)
    used_by(resource, amount=5, name="heavy")
    found = errors(lambda: resources.update_resource(SYSTEM, resource, {"capacity": 4}, now=NOW))
    assert "heavy" in found["capacity"][0]
    assert resources.update_resource(SYSTEM, resource, {"capacity": 5}, now=NOW).capacity == 5


def test_an_edit_keeps_what_it_does_not_name_and_is_audited_with_what_changed():
    resource = create(capacity=9, description="old", breaker_failures=3)
    resources.trip(SYSTEM, resource, now=NOW)
    resources.update_resource(SYSTEM, resource, {"description": "new", "name": "ignored"}, now=NOW)
    resource.refresh_from_db()
    assert (resource.name, resource.capacity, resource.description) == ("api", 9, "new")
    assert resource.breaker_state == BreakerState.OPEN
    entry = AuditEntry.objects.order_by("-id")[0]
    assert (entry.before, entry.after) == ({"description": "old"}, {"description": "new"})


def test_a_resource_that_loses_its_last_rule_is_closed():
    resource = create(breaker_failures=3, breaker_ratio=0.5)
    resources.trip(SYSTEM, resource, now=NOW)
    one_left = resources.update_resource(SYSTEM, resource, {"breaker_ratio": None}, now=NOW)
    assert one_left.breaker_state == BreakerState.OPEN
    none_left = resources.update_resource(SYSTEM, resource, {"breaker_failures": None}, now=NOW)
    assert (none_left.breaker_state, none_left.breaker_open_until) == (BreakerState.CLOSED, None)


def test_a_resource_that_is_used_cannot_be_deleted():
    resource, free = create(), create("free")
    used_by(resource, name="reader")
    with pytest.raises(WrongState, match="reader"):
        resources.delete_resource(SYSTEM, resource, now=NOW)
    TaskResource.objects.all().delete()
    resources.delete_resource(SYSTEM, resource, now=NOW)
    assert list(Resource.objects.all()) == [free]
    with pytest.raises(NotFound):
        resources.delete_resource(SYSTEM, resource, now=NOW)


# Breakers by hand


def test_a_breaker_is_opened_and_closed_by_hand():
    resource, other = create(breaker_failures=3, breaker_open_seconds=60), create("other", breaker_failures=3)
    Resource.objects.update(breaker_outcomes="ff", breaker_failures_in_a_row=2)
    tripped = resources.trip(SYSTEM, resource, now=NOW)
    assert (tripped.breaker_state, tripped.breaker_open_until) == ("open", later(seconds=60))
    closed = resources.reset(SYSTEM, resource, now=later(seconds=5))
    assert (closed.breaker_state, closed.breaker_open_until, closed.breaker_changed_at) == (
        "closed",
        None,
        later(seconds=5),
    )
    assert (closed.breaker_outcomes, closed.breaker_failures_in_a_row) == ("", 0)
    other.refresh_from_db()
    assert (other.breaker_state, other.breaker_outcomes) == ("closed", "ff")
    trip, reset = AuditEntry.objects.filter(verb__in=["trip", "reset"]).order_by("id")
    assert trip.after == {"state": "open", "open_until": "2026-03-02T12:01:30+00:00"}
    assert (reset.before, reset.after) == ({"state": "open"}, {"state": "closed", "open_until": None})


@pytest.mark.parametrize("verb", [resources.trip, resources.reset])
def test_a_resource_without_a_breaker_has_none_to_turn(verb):
    resource = create(capacity=1)
    with pytest.raises(WrongState):
        verb(SYSTEM, resource, now=NOW)
    assert Resource.objects.get().breaker_state == "closed"


# What is used, what waits


def test_what_is_in_use_is_the_amounts_of_live_runs():
    db, api, idle = create("db"), create("api"), create("idle")
    task, other = used_by(db, amount=3), used_by(db, amount=2)
    TaskResource.objects.create(task=task, resource=api)
    queued, running, _waiting = plan(task, 3)
    enqueue(queued)
    start(running, *plan(other))
    assert resources.in_use_of_resources([db.pk, api.pk, idle.pk]) == {db.pk: 8, api.pk: 2}


def test_runs_are_held_by_a_breaker_that_is_not_closed():
    api, db = create("api", breaker_failures=1), create("db", breaker_failures=1)
    task = used_by(api)
    TaskResource.objects.create(task=task, resource=db)
    plan(task, 3)
    plan(task, due_at=later(hours=1))
    enqueue(*plan(task))

    def held() -> dict[int, int]:
        return resources.runs_held_by_breakers(Resource.objects.all(), now=NOW)

    assert held() == {}
    resources.trip(SYSTEM, api, now=NOW)
    assert held() == {api.pk: 3}


# Who


def test_resources_are_for_administrators_of_the_installation_and_seen_by_members(alice, charlie, root_user):
    resource = create(breaker_failures=1)
    owner, root = user_actor(alice), user_actor(root_user)
    for call in (
        lambda actor: resources.create_resource(actor, {"name": "new"}, now=NOW),
        lambda actor: resources.update_resource(actor, resource, {"capacity": 1}, now=NOW),
        lambda actor: resources.trip(actor, resource, now=NOW),
        lambda actor: resources.reset(actor, resource, now=NOW),
        lambda actor: resources.delete_resource(actor, resource, now=NOW),
    ):
        before = list(Resource.objects.values())
        with pytest.raises(PermissionRefused):
            call(owner)
        assert list(Resource.objects.values()) == before
        call(root)
    assert [r.name for r in resources.resources_visible_to(owner)] == ["new"]
    assert not resources.resources_visible_to(user_actor(charlie)).exists()
