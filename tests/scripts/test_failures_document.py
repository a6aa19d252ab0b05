"""`docs/failures.md` names tests that are there, at least one on each line."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.chaos.points import POINTS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "failures.md"


def lines() -> list[str]:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    return [row for row in rows if row != "| what happens | staged by |"]


def test_every_failure_has_a_test_and_every_test_that_is_named_is_there():
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(lines()) >= 30
    without = [row for row in lines() if "`test_" not in row and "the same" not in row]
    assert without == []
    named = {name for row in lines() for name in re.findall(r"`(test_\w+)`", row)}
    assert named - written == set()


def test_every_point_that_is_named_is_there():
    assert set(re.findall(r"point `([^`]+)`", DOCUMENT.read_text())) <= set(POINTS)
