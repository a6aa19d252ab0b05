"""Registering functions that may run as tasks: `@scheduler_callable` in a module named in SCHEDULER_CALLABLES."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings

BUILT_IN_MODULES: tuple[str, ...] = ("workers_app.samples",)
_registry: dict[str, Callable[..., Any]] = {}
F = TypeVar("F", bound=Callable[..., Any])


def scheduler_callable(function: F) -> F:
    """Register the function under `module.name`. Parameters arrive by keyword; it returns JSON or None."""
    _registry[f"{function.__module__}.{function.__qualname__}"] = function
    return function


def allowed_modules() -> tuple[str, ...]:
    """Modules whose registered callables may run: the built-in samples and those of SCHEDULER_CALLABLES."""
    return (*BUILT_IN_MODULES, *settings.SCHEDULER_CALLABLES)


def load_callables() -> dict[str, Callable[..., Any]]:
    """Import the allowed modules and return what they registered, by dotted name. Raises ImportError."""
    for module in allowed_modules():
        importlib.import_module(module)
    return {name: function for name, function in _registry.items() if name.rpartition(".")[0] in allowed_modules()}
