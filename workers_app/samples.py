"""Built-in callables: to try an installation out, and to test and measure with."""

from __future__ import annotations

import time
from typing import Any

from tasks_app.callables import scheduler_callable


@scheduler_callable
def noop() -> None:
    """Do nothing."""


@scheduler_callable
def echo(**params: Any) -> dict[str, Any]:
    """Return the parameters."""
    return params


@scheduler_callable
def sleep(seconds: float = 1.0) -> float:
    """Sleep for `seconds` and return them."""
    time.sleep(seconds)
    return seconds


@scheduler_callable
def fail(message: str = "This run fails, as it was asked to.") -> None:
    """Raise RuntimeError with `message`."""
    raise RuntimeError(message)
