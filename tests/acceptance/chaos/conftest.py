"""The file that the tasks of a test write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.chaos.history import History


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")
