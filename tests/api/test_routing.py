"""Routing over the API: what a task says, and what runs show of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from tasks_app.models import Run
from tests.api.client import NOOP, is_problem

BODY = {"name": "t", "project": "analytics", "executor": "callable", "command": NOOP}


def test_a_task_says_to_which_workers_its_runs_go(api, alice):
    client = api(alice)
    plain = client.post("/api/tasks", BODY).json()
    usual: dict[str, Any] = {
        "routing": "any",
        "routing_key": "",
        "routing_workers": [],
        "shards": None,
        "required_labels": "",
    }
    assert {name: plain[name] for name in usual} == usual
    said = {"routing": "failover", "routing_workers": ["b", "a"], "required_labels": "gpu and mem >= 16"}
    path = f"/api/tasks/{plain['id']}"
    assert client.patch(path, said).json() == client.get(path).json()
    assert {name: client.get(path).json()[name] for name in said} == said
    back = client.put(path, BODY).json()
    assert {name: back[name] for name in usual} == usual


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"required_labels": "gpu and"}, "required_labels"),
        ({"required_labels": "zone in a"}, "required_labels"),
        ({"required_labels": 5}, "required_labels"),
        ({"required_labels": "x" * 501}, "required_labels"),
        ({"routing": "nowhere"}, "routing"),
        ({"routing": "specific", "routing_workers": ["a", "b"]}, "routing_workers"),
        ({"routing_workers": "a"}, "routing_workers"),
        ({"routing_workers": ["a", 1]}, "routing_workers.1"),
        ({"routing_workers": [""]}, "routing_workers.0"),
        ({"routing": "consistent_hash"}, "routing_key"),
        ({"routing": "shards", "shards": 0}, "shards"),
        ({"routing": "shards"}, "shards"),
        ({"routing": "broadcast", "overlap": "skip"}, "overlap"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(api, alice, body, field):
    problem = is_problem(api(alice).post("/api/tasks", BODY | body), 400, field)
    assert problem["errors"].keys() == {field}


def test_a_mistake_in_an_expression_is_told_with_its_place(api, alice):
    problem = is_problem(api(alice).post("/api/tasks", BODY | {"required_labels": "gpu zone"}), 400)
    assert "at character 5" in problem["errors"]["required_labels"][0]


def test_runs_show_their_worker_and_their_part_and_are_found_by_what_they_are_part_of(api, alice, make_task):
    client, task = api(alice), make_task()
    whole, part, other = (client.post(f"/api/tasks/{task.pk}/trigger", {}).json()["id"] for _ in range(3))
    Run.objects.filter(pk=whole).update(shard_index=0, shard_total=2)
    Run.objects.filter(pk=part).update(shard_index=1, shard_total=2, shard_of=whole, created_at=timezone.now())
    shown = client.get(f"/api/runs/{part}").json()
    assert (shown["shard_of"], shown["shard_index"], shown["shard_total"], shown["target"]) == (whole, 1, 2, None)
    found = client.get(f"/api/runs?shard_of={whole}").json()["results"]
    assert sorted(run["id"] for run in found) == sorted([whole, part])
    assert client.get(f"/api/runs/{other}").json()["shard_index"] is None
