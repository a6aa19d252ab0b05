"""Talking to the API as somebody: `api(user)` sends JSON with a key of that user."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest


@pytest.fixture
def api(db: None) -> Callable[..., Any]:
    """`api(user, role="admin")`: a client with a fresh key of the user; `api(None)`: one without."""
    from access_app import services
    from access_app.actors import system_actor
    from tests.api.client import Api

    def make(user: Any, role: str = "admin") -> Api:
        if user is None:
            return Api(None)
        now = datetime.now(UTC)
        _key, token = services.create_key(system_actor(), user, name="tests", role=role, expiry=None, now=now)
        return Api(token)

    return make


@pytest.fixture
def make_task(project: Any) -> Callable[..., Any]:
    """A task in the project, made by the service."""
    from access_app.actors import system_actor
    from tasks_app.services import tasks
    from tests.api.client import NOOP, default_pool

    def make(name: str = "load", **fields: Any) -> Any:
        given = {"project": project, "pool": default_pool(), "executor": "callable", "command": NOOP, **fields}
        return tasks.create(system_actor(), {"name": name, **given}, now=datetime.now(UTC))

    return make
