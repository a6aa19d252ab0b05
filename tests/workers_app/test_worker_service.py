"""Cordon, uncordon and drain: the service, the API, the commands and the admin."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.test import Client
from django.utils import timezone

from access_app.actors import system_actor, user_actor
from access_app.models import AuditEntry
from tasks_app.errors import NotFound, PermissionRefused, WrongState
from tests.tasks_app.admin_pages import messages_of, page
from tests.tasks_app.command_line import refused, run_command
from tests.tasks_app.making import make_task, make_worker, plan, start
from workers_app import services
from workers_app.management.commands import drain_worker
from workers_app.models import Worker

pytestmark = pytest.mark.django_db
VERBS = {"cordon": services.cordon, "uncordon": services.uncordon, "drain": services.drain}
ROOT = system_actor()


def serving(state: str = "online", **fields: Any) -> Worker:
    return make_worker(state=state, **{"lease_until": timezone.now() + timedelta(minutes=1)} | fields)


def state_of(worker: Worker) -> str:
    return Worker.objects.values_list("state", flat=True).get(pk=worker.pk)


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("cordon", "online", "cordoned"),
        ("uncordon", "cordoned", "online"),
        ("drain", "online", "draining"),
        ("drain", "cordoned", "draining"),
    ],
)
def test_what_is_asked_stands_in_the_row_and_in_the_audit_trail(verb, before, after):
    worker, other = serving(before), serving(before)
    assert VERBS[verb](ROOT, worker, now=timezone.now()).state == after
    assert (state_of(worker), state_of(other)) == (after, before)
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.object_id, entry.before, entry.after) == (
        verb, str(worker.pk), {"state": before}, {"state": after},
    )  # fmt: skip


@pytest.mark.parametrize(("verb", "state"), [("cordon", "cordoned"), ("uncordon", "online"), ("drain", "draining")])
def test_to_ask_again_changes_nothing_and_leaves_no_entry(verb, state):
    worker = serving(state)
    assert VERBS[verb](ROOT, worker, now=timezone.now()).state == state
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        *[("cordon", state) for state in ("draining", "lost", "offline")],
        *[("uncordon", state) for state in ("draining", "lost", "offline")],
        *[("drain", state) for state in ("lost", "offline")],
    ],
)
def test_what_cannot_be_asked_in_a_state_is_refused(verb, state):
    worker = serving(state)
    with pytest.raises(WrongState) as refusal:
        VERBS[verb](ROOT, worker, now=timezone.now())
    assert state in refusal.value.message
    assert state_of(worker) == state and not AuditEntry.objects.exists()


def test_a_worker_whose_lease_has_run_out_is_asked_for_nothing():
    silent = serving(lease_until=timezone.now() - timedelta(seconds=1))
    with pytest.raises(WrongState, match="lost"):
        services.cordon(ROOT, silent, now=timezone.now())


@pytest.mark.parametrize("verb", VERBS)
def test_only_administrators_of_the_installation_may_ask(alice, verb):
    worker = serving("cordoned" if verb == "uncordon" else "online")
    before = state_of(worker)
    with pytest.raises(PermissionRefused):
        VERBS[verb](user_actor(alice), worker, now=timezone.now())
    assert state_of(worker) == before and not AuditEntry.objects.exists()


def test_a_worker_that_is_gone_is_not_found():
    worker = serving()
    Worker.objects.all().delete()
    with pytest.raises(NotFound):
        services.drain(ROOT, worker, now=timezone.now())


# Commands


def test_commands_find_a_worker_by_name_or_id():
    worker, other = serving(), serving()
    assert worker.name in run_command("cordon_worker", worker.name)
    assert (state_of(worker), state_of(other)) == ("cordoned", "online")
    assert json.loads(run_command("uncordon_worker", str(worker.pk), "--json"))["state"] == "online"
    assert "leaves" in run_command("drain_worker", worker.name)
    assert (state_of(worker), state_of(other)) == ("draining", "online")


def test_commands_refuse_what_they_cannot_find_or_tell_apart():
    assert refused("cordon_worker", "nobody").returncode == 2
    twins = [serving(), serving()]
    Worker.objects.update(name="twin")
    error = refused("drain_worker", "twin")
    assert error.returncode == 2 and str(twins[0].pk) in str(error)
    Worker.objects.filter(pk=twins[0].pk).update(state="offline")
    run_command("drain_worker", "twin")
    assert state_of(twins[1]) == "draining"


@pytest.mark.parametrize(("end", "code"), [("offline", 0), ("lost", 1)])
def test_drain_worker_waits_until_the_worker_has_left(monkeypatch, end, code):
    worker = serving()
    start(*plan(make_task()), worker_id=worker.pk)
    looks: list[str] = []

    def sleep(_seconds: float) -> None:
        looks.append(state_of(worker))
        if len(looks) == 2:
            Worker.objects.update(state=end)

    monkeypatch.setattr(drain_worker, "sleep", sleep)
    if code == 0:
        assert "has left" in run_command("drain_worker", worker.name, "--wait")
    else:
        with pytest.raises(CommandError, match="lost") as error:
            run_command("drain_worker", worker.name, "--wait")
        assert error.value.returncode == code
    assert looks == ["draining", "draining"]


# The admin


def test_the_admin_asks_for_the_selected_workers_and_names_those_that_refuse(root_user):
    client = Client()
    client.force_login(root_user)
    chosen, gone, other = serving(), serving("offline"), serving()
    asked = {"cordon_workers": "cordoned", "uncordon_workers": "online", "drain_workers": "draining"}
    for action, state in asked.items():
        form = {"action": action, "_selected_action": [str(chosen.pk), str(gone.pk)]}
        answer = client.post(page(Worker, "changelist"), form, follow=True)
        assert state_of(chosen) == state
        assert any(gone.name in text and "offline" in text for text in messages_of(answer))
    assert (state_of(gone), state_of(other)) == ("offline", "online")
    assert client.get(page(Worker, "change", chosen.pk)).status_code == 200
    assert client.post(page(Worker, "change", chosen.pk), {"state": "online"}).status_code == 403
