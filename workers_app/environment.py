"""The environment of a child, built from empty: nothing of the worker's own leaks into it."""

from __future__ import annotations

import json
import os
import pwd
from datetime import UTC
from typing import Any

from workers_app.jobs import Job
from workers_app.marks import MARK
from workers_app.reaper import reaper

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def child_environment(job: Job) -> dict[str, str]:
    """The variables of a shell or python run: the user's own, SCHEDULER_* about the run, PARAM_* for its parameters."""
    user, home = _account()
    env = {"PATH": _PATH, "HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "LANG": "C.UTF-8"}
    if reaper.mark:
        env[MARK] = reaper.mark
    return env | run_variables(job)


def run_variables(job: Job) -> dict[str, str]:
    """What a run is told of itself, wherever it is executed."""
    env = {**job.secrets, **about_run(job), **{f"PARAM_{name}": _flat(value) for name, value in job.params.items()}}
    return {name: value.replace("\x00", "") for name, value in env.items()}


def about_run(job: Job) -> dict[str, str]:
    """SCHEDULER_* variables: which attempt of which run this is, of which task, for when."""
    env = {
        "SCHEDULER_RUN_ID": str(job.run_id),
        "SCHEDULER_ATTEMPT": str(job.attempt),
        "SCHEDULER_TASK": job.task_name,
        "SCHEDULER_SHARD_INDEX": str(job.shard_index),
        "SCHEDULER_SHARD_TOTAL": str(job.shard_total),
        "SCHEDULER_PARAMS": json.dumps(job.params),
    }
    if job.nominal_at is not None:
        env["SCHEDULER_NOMINAL_TIME"] = job.nominal_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return env


def _account() -> tuple[str, str]:
    """Name and home folder of the account we run as; containers may run as a number that has no entry."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return str(os.geteuid()), "/"
    return entry.pw_name, entry.pw_dir


def _flat(value: Any) -> str:
    """Text as it is, anything else as JSON: true, 3, {"a": 1}."""
    return value if isinstance(value, str) else json.dumps(value)
