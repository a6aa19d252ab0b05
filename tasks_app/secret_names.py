"""Secrets by name, in tasks: `{variable: name of the secret}`, and `${secret:VARIABLE}` in parameters. Pure.

The variable is what a process gets the value under; where an executor starts none, the reference stands for the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _

MOST = 20
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_REFERENCE = re.compile(r"\$\{secret:([^{}]*)\}")
# A process could not start, or would start something else, with these.
_OURS = frozenset("PATH HOME USER LOGNAME SHELL LANG PWD TMPDIR IFS ENV BASH_ENV XDG_RUNTIME_DIR".split())  # noqa: SIM905
_OUR_BEGINNINGS = ("SCHEDULER_", "PARAM_", "LD_", "DOCKER_")


def problem(given: Any) -> str | None:
    """What is wrong with the mapping, as a sentence; None where it may be."""
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given.values()):
        return _("Give an object of variables and names of secrets.")
    if len(given) > MOST:
        return _("A task has at most %(n)d secrets.") % {"n": MOST}
    for variable in given:
        if not VARIABLE.fullmatch(variable):
            return _("%(name)s is no name of a variable: letters, digits and underscores, not a digit first.") % {
                "name": variable[:100]
            }
        if variable in _OURS or variable.startswith(_OUR_BEGINNINGS):
            return _("The variable %(name)s has another meaning; choose another name for it.") % {"name": variable}
    return None


def references(value: Any) -> set[str]:
    """The variables that references in the JSON value name."""
    return {name for text in _strings(value) for name in _REFERENCE.findall(text)}


def count(value: Any) -> int:
    """How many references there are in the JSON value."""
    return sum(len(_REFERENCE.findall(text)) for text in _strings(value))


def put_in(value: Any, secrets: Mapping[str, str]) -> Any:
    """The JSON value with each reference replaced in its strings. Raises KeyError for a variable that is not there."""
    if isinstance(value, str):
        # What was put in is not looked into again.
        return _REFERENCE.sub(lambda found: secrets[found[1]], value)
    if isinstance(value, list):
        return [put_in(item, secrets) for item in value]
    if isinstance(value, dict):
        return {key: put_in(item, secrets) for key, item in value.items()}
    return value


def _strings(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list | dict):
            stack.extend(item.values() if isinstance(item, dict) else item)
