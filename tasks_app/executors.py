"""What a task may be made of: each executor's name, the meaning of its command and the schema of its parameters.

The implementations live in workers_app.executors, under the same names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_app.json_text import is_too_deep, too_deep
from tasks_app import macros
from tasks_app.callables import allowed_modules
from tasks_app.errors import InvalidInput
from tasks_app.texts import storable_json

PARAM_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
MAX_PARAMS_BYTES = 64 * 1024
# With macros replaced. Linux takes at most 128 KiB in one variable of the environment, and one holds all of them.
MAX_EXPANDED_BYTES = 120 * 1024

# Parameters of shell and python runs become environment variables: names must be names, values flat text.
_ENVIRONMENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": PARAM_NAME},
    "additionalProperties": True,
}
_HTTP_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "method": {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {},
        "expected_statuses": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "minimum": 100, "maximum": 599},
        },
    },
}
_CELERY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"args": {"type": "array"}, "kwargs": {"type": "object"}},
}
_SQL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "connection": {
            "type": "string",
            "pattern": r"^([a-z][a-z0-9_]{0,63}|\$\{secret:[A-Za-z_][A-Za-z0-9_]{0,63}\})$",
        },
        "values": {"type": ["object", "array"]},
        "max_rows": {"type": "integer", "minimum": 0, "maximum": 1000},
        "autocommit": {"type": "boolean"},
    },
}
_CONTAINER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "env": {"type": "object", "propertyNames": {"pattern": PARAM_NAME}},
        "entrypoint": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        "memory": {"type": "string", "pattern": "^[1-9][0-9]{0,11}[kmg]?$"},
        "cpus": {"type": "number", "exclusiveMinimum": 0, "maximum": 1024},
        "pull": {"enum": ["missing", "always", "never"]},
    },
}


@dataclass(frozen=True, slots=True)
class Executor:
    """One way to execute: `check_command` returns a sentence when the command cannot be right, else None."""

    name: str
    command_help: Any
    params_schema: dict[str, Any]
    check_command: Callable[[str], str | None]


def _check_shell(command: str) -> str | None:
    return None if command.strip() else _("Give the command line to run.")


def _check_python(command: str) -> str | None:
    import shlex

    try:
        words = shlex.split(command)
    except ValueError as error:
        return _("The quotes of the command do not match: %(error)s.") % {"error": error}
    if not words:
        return _("Give a script below the scripts folder, then its arguments.")
    if words[0].startswith("/") or ".." in words[0].split("/"):
        return _("The script must lie below the scripts folder; use a relative path without '..'.")
    return None


def _check_callable(command: str) -> str | None:
    module, _dot, name = command.rpartition(".")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", command, re.ASCII) or not module or not name:
        return _("Give the dotted name of a registered callable, such as workers_app.samples.echo.")
    if module not in allowed_modules():
        return _("The module %(module)s is not among SCHEDULER_CALLABLES.") % {"module": module}
    return None


def _check_http(command: str) -> str | None:
    try:
        parts = urlsplit(command)
        host = parts.hostname
        parts.port  # noqa: B018  (raises for a port that is not a number)
    except ValueError as error:
        return _("The address cannot be read: %(error)s.") % {"error": error}
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", command):
        return _("Give a full address that begins with http:// or https://.")
    if parts.username or parts.password:
        return _("The address must not carry a user name or password.")
    return None


def _check_celery(command: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z_][\w.\-]*", command, re.ASCII):
        return _("Give the name of a Celery task, such as shop.tasks.send_invoices.")
    return None


def _check_sql(command: str) -> str | None:
    return None if command.strip() else _("Give the statement to execute.")


def _check_container(command: str) -> str | None:
    import shlex

    try:
        words = shlex.split(command)
    except ValueError as error:
        return _("The quotes of the command do not match: %(error)s.") % {"error": error}
    # Not a dash first: it would be an option of the command that starts the container.
    if not words or not re.fullmatch(r"[A-Za-z0-9][\w.\-/:@]*", words[0], re.ASCII):
        return _("Give an image, then the arguments of its command.")
    return None


EXECUTORS: dict[str, Executor] = {
    executor.name: executor
    for executor in (
        Executor("shell", gettext_lazy("A command line for /bin/sh -c."), _ENVIRONMENT_SCHEMA, _check_shell),
        Executor(
            "python",
            gettext_lazy("A script below the scripts folder, with arguments."),
            _ENVIRONMENT_SCHEMA,
            _check_python,
        ),
        Executor(
            "callable", gettext_lazy("The dotted name of a registered callable."), {"type": "object"}, _check_callable
        ),
        Executor("http", gettext_lazy("The address to call."), _HTTP_SCHEMA, _check_http),
        Executor("celery", gettext_lazy("The name of an existing Celery task."), _CELERY_SCHEMA, _check_celery),
        Executor("container", gettext_lazy("An image, with arguments."), _CONTAINER_SCHEMA, _check_container),
        Executor("sql", gettext_lazy("A statement on a named connection."), _SQL_SCHEMA, _check_sql),
    )
}


def check(executor: str, command: str) -> None:
    """Raise InvalidInput at `executor` or `command` when they cannot work."""
    known = EXECUTORS.get(executor)
    if known is None:
        raise InvalidInput(
            executor=_("Unknown executor %(name)r. Choose one of: %(names)s.")
            % {"name": executor, "names": ", ".join(EXECUTORS)}
        )
    if "\x00" in command:
        raise InvalidInput(command=_("The command must not contain a NUL character."))
    if (problem := known.check_command(command)) is not None:
        raise InvalidInput(command=problem)


def check_params(executor: str, params: Any, *, most_bytes: int = MAX_PARAMS_BYTES) -> None:
    """Raise InvalidInput at `params` when they do not fit the executor's schema, nest too deep or are too large."""
    import json

    if not isinstance(params, dict):
        raise InvalidInput(params=_("Parameters are an object of names and values."))
    if not params:
        return
    # Before anything that recurses.
    if is_too_deep(params):
        raise InvalidInput(params=too_deep())
    text = json.dumps(params)
    if len(text) > most_bytes:
        raise InvalidInput(params=_("Parameters may be at most %(n)d KiB.") % {"n": most_bytes // 1024})
    if storable_json(params) != params:
        raise InvalidInput(params=_("Parameters must not contain a NUL character or half of a surrogate pair."))
    problem = _schema_problem(EXECUTORS[executor].params_schema, params)
    if problem is not None:
        raise InvalidInput(params=problem)


def check_macros(params: Any) -> None:
    """Raise InvalidInput at `params` when a macro in them cannot be read or names what no run has."""
    try:
        unknown = sorted(str(path[0]) for path in macros.references(params) if path[0] not in macros.ROOTS)
    except macros.MacroError as error:
        raise InvalidInput(params=error.message) from error
    if unknown:
        words = {"name": unknown[0], "names": ", ".join(sorted(macros.ROOTS))}
        raise InvalidInput(params=_("The macro %(name)s is unknown; there are %(names)s.") % words)


def _schema_problem(schema: dict[str, Any], params: dict[str, Any]) -> str | None:
    if schema == {"type": "object"}:
        return None
    from jsonschema import Draft202012Validator

    error = next(iter(Draft202012Validator(schema).iter_errors(params)), None)
    if error is None:
        return None
    place = "/".join(str(part) for part in error.absolute_path)
    return f"{place}: {error.message}" if place else error.message
