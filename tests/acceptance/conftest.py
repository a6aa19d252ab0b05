"""The stack of real processes, with the invariants asked when a test is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.invariants import assert_invariants_hold
from tests.services import ProcessStack


@pytest.fixture
def stack(process_stack: ProcessStack) -> Iterator[ProcessStack]:
    """A stack of processes whose rows must hold the invariants at the end; mark the test as for `process_stack`."""
    yield process_stack
    assert_invariants_hold(process_stack)
