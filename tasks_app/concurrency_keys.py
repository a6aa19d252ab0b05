"""The concurrency key of a run: macros over what is known of it before it runs. Pure.

`{{ params.region }}` gives every region a limit of its own. Beside `params` there are `nominal_time`, `nominal_date`
and `task`; outputs of upstream runs are not there yet, nor the run's own number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tasks_app.macros import MacroError, expand, names_of_run, references

MAX_KEY = 200
KNOWN_BEFORE = ("params", "nominal_time", "nominal_date", "task")


def check_template(template: str) -> None:
    """Raises MacroError when the template cannot be read, or names what nobody knows before the run."""
    for path in sorted(references(template), key=str):
        if path[0] not in KNOWN_BEFORE:
            known = ", ".join(KNOWN_BEFORE)
            raise MacroError(str(path[0]), f"{path[0]} is not known before the run; there are {known}.")


def key_of(
    template: str, *, task: str, project: str, nominal_at: datetime, zone: str, params: Mapping[str, Any]
) -> str:
    """The key of one run. `nominal_at` (aware) is its nominal time or, where it has none, when it was asked for.

    Raises MacroError when a macro cannot be replaced, or when what comes of it is no text of 1 to 200 characters.
    """
    names = names_of_run(
        run_id=0,
        attempt=1,
        run_type="",
        task=task,
        project=project,
        nominal_at=nominal_at,
        zone=zone,
        params=params,
        upstream={},
    )
    value = expand(template, {name: names[name] for name in KNOWN_BEFORE})
    if value is None or isinstance(value, dict | list):
        raise MacroError(template, f"{template[:100]!a} gives no text that could be a concurrency key.")
    text = value if isinstance(value, str) else json.dumps(value)
    if not 0 < len(text) <= MAX_KEY:
        raise MacroError(template, f"A concurrency key has 1 to {MAX_KEY} characters; this one has {len(text)}.")
    return text


def key_or_template(template: str, **known: Any) -> str:
    """The key, or the template itself where it cannot be replaced.

    For runs that nobody is there to be refused to, such as scheduled ones: those without a key share one, that reads as
    what could not be replaced. None is lost for it, and none escapes the limit.
    """
    try:
        return key_of(template, **known)
    except MacroError:
        return template
