"""People at the console, signed in."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client


@pytest.fixture
def task(project: Any) -> Any:
    from tests.console_app.factories import make_task

    return make_task(project)


@pytest.fixture
def as_alice(alice: Any) -> Client:
    """Administers the project."""
    return _signed_in(alice)


@pytest.fixture
def as_bob(bob: Any) -> Client:
    """Operates the project: runs, cancels, pauses, but edits nothing."""
    return _signed_in(bob)


@pytest.fixture
def as_charlie(charlie: Any) -> Client:
    """May see nothing."""
    return _signed_in(charlie)


def _signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client
