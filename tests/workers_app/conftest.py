"""What the tests of the workers start for the whole process, and end with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _ended_helpers() -> Iterator[None]:
    """The reaper and the warm hosts live as long as a worker; here that is the test run."""
    yield
    from workers_app import hosts
    from workers_app.reaper import reaper

    hosts.pool.close()
    reaper.close()
