"""The invariants of SEMANTICS 2, asked of a stack's rows after every acceptance test, and at any moment of one, by the
command that an operator has."""

from __future__ import annotations

from tests.services import ProcessStack


def assert_invariants_hold(stack: ProcessStack) -> None:
    """Raises AssertionError with the violations."""
    assert '"violations": []' in stack.run("check_invariants", "--all", "--json")
