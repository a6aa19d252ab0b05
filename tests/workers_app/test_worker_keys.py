"""Worker keys by command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from access_app import worker_keys
from access_app.actors import user_actor
from access_app.errors import InvalidInput, PermissionRefused
from access_app.models import AuditEntry, WorkerKey
from tests.tasks_app.command_line import refused, run_command
from tests.tasks_app.making import default_pool, later, make_pool
from tests.workers_app.agents import make_key

pytestmark = pytest.mark.django_db


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_command("worker_keys", "--json"))["results"]
    return found


def test_commands_create_list_and_revoke_keys():
    make_pool("far")
    token = run_command("create_worker_key", "--name", "edge", "--pool", "default", "--pool", "far").strip()
    key = worker_keys.find(token)
    assert key is not None and key.pool_names == ["default", "far"]
    (shown,) = listed()
    assert (shown["name"], shown["prefix"], shown["pools"], shown["revoked_at"]) == (
        "edge", token[:17], ["default", "far"], None,
    )  # fmt: skip
    text = run_command("worker_keys")
    assert "edge" in text and "never used" in text and token not in text
    assert "revoked" in run_command("revoke_worker_key", "edge")
    assert worker_keys.find(token) is None and listed()[0]["revoked_at"]
    assert "revoked" in run_command("worker_keys")


@pytest.mark.parametrize("by", ["id", "name", "prefix", "token"])
def test_a_key_is_revoked_by_what_is_known_of_it(by):
    key, token = make_key()
    other, other_token = make_key(name="other")
    run_command("revoke_worker_key", {"id": str(key.pk), "name": "edge", "prefix": key.prefix, "token": token}[by])
    assert worker_keys.find(token) is None and worker_keys.find(other_token) == other


def test_which_of_two_keys_of_one_name_is_meant_has_to_be_said():
    keys = [make_key()[0], make_key()[0]]
    assert all(str(key.pk) in str(refused("revoke_worker_key", "edge")) for key in keys)
    assert "There is no worker key nothing" in str(refused("revoke_worker_key", "nothing"))
    assert "There is no pool nowhere" in str(refused("create_worker_key", "--name", "k", "--pool", "nowhere"))


def test_only_administrators_of_the_installation_have_to_do_with_worker_keys(alice):
    key, token = make_key()
    actor = user_actor(alice)
    for call in (
        lambda: worker_keys.create(actor, name="k", pools=[default_pool()], now=later()),
        lambda: worker_keys.revoke(actor, key, now=later()),
    ):
        with pytest.raises(PermissionRefused):
            call()
    assert not worker_keys.keys_visible_to(actor).exists()
    assert worker_keys.find(token) == key


def test_a_key_has_a_name_and_a_pool_and_only_its_digest_is_kept(root_user):
    actor = user_actor(root_user)
    for name, pools, field in (
        ("", [default_pool()], "name"),
        ("x" * 101, [default_pool()], "name"),
        ("k", [], "pools"),
    ):
        with pytest.raises(InvalidInput) as found:
            worker_keys.create(actor, name=name, pools=pools, now=later())
        assert list(found.value.errors) == [field]
    key, token = worker_keys.create(actor, name="k", pools=[default_pool()], now=later())
    assert token not in json.dumps(list(WorkerKey.objects.values()), default=str)
    assert worker_keys.revoke(actor, key, now=later()).revoked_at == later()
    assert worker_keys.revoke(actor, key, now=later(days=1)).revoked_at == later()
    assert list(AuditEntry.objects.order_by("pk").values_list("verb", "object_type", "object_name")) == [
        ("create", "workerkey", str(key)), ("revoke", "workerkey", str(key)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "dts_worker_", "dts_worker_" + "0" * 64, "dts_worker_ü", "dts_worker_" + "0" * 500]
)
def test_what_is_no_key_opens_nothing(text):
    make_key()
    assert worker_keys.find(text) is None
