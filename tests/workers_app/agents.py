"""An agent as the tests play it: a client with a worker key that speaks the protocol."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.test import Client

from access_app import worker_keys
from access_app.actors import system_actor
from access_app.models import WorkerKey
from tests.tasks_app.making import default_pool, enqueue, make_task, plan


def make_key(*pools: Any, name: str = "edge") -> tuple[WorkerKey, str]:
    return worker_keys.create(system_actor(), name=name, pools=pools or (default_pool(),), now=datetime.now(UTC))


class Agent:
    """`token` is a worker key; `registered` starts it."""

    def __init__(self, token: str) -> None:
        self.client = Client(headers={"Authorization": f"Bearer {token}"})
        self.id = ""

    def post(self, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode()
        return self.client.generic("POST", f"/api/workers{path}", data, content_type="application/json")

    def register(self, **wish: Any) -> Any:
        return self.post("", **{"slots": 2, "executors": ["shell", "python"]} | wish)

    def beat(self, *held: tuple[int, int], **load: Any) -> Any:
        return self.post(f"/{self.id}/heartbeat", running=_pairs(held), **load)

    def claim(self, *held: tuple[int, int]) -> Any:
        return self.post(f"/{self.id}/claim", running=_pairs(held))

    def log(self, run: int, offset: int, *texts: str, attempt: int = 1, **more: Any) -> Any:
        lines = [[0.0, "stdout", text] for text in texts]
        return self.post(f"/{self.id}/runs/{run}/log", attempt=attempt, offset=offset, **{"lines": lines, **more})

    def finish(self, run: int, *, attempt: int = 1, **end: Any) -> Any:
        return self.post(f"/{self.id}/runs/{run}/finish", attempt=attempt, **{"lines": 0, "exit_code": 0, **end})

    def claimed(self, *held: tuple[int, int]) -> list[int]:
        """Ids of the runs that a claim gives."""
        answer = self.claim(*held)
        assert answer.status_code == 200, answer.content
        return [run["id"] for run in answer.json()["runs"]]


def registered(token: str | None = None, **wish: Any) -> Agent:
    agent = Agent(token or make_key()[1])
    answer = agent.register(**wish)
    assert answer.status_code == 201, answer.content
    agent.id = answer.json()["id"]
    return agent


def queued(number: int = 1, **fields: Any) -> list[int]:
    """Ids of queued runs of a new shell task."""
    ids = plan(make_task(**{"executor": "shell", "command": "true"} | fields), number, now=datetime.now(UTC))
    enqueue(*ids, now=datetime.now(UTC))
    return ids


def _pairs(held: tuple[tuple[int, int], ...]) -> list[dict[str, int]]:
    return [{"run": run, "attempt": attempt} for run, attempt in held]
