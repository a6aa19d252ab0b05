"""Executes one existing Celery task in this process: `python celery_main.py APP TASK RESULT_FILE`.

The process is the worker of that call: no broker takes part, and nothing of the task's code changes. It imports nothing
of ours, so that it may be another interpreter with another environment than the scheduler's.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # The folder of this file would come first, and its modules in place of the application's.
    sys.path[0] = ""

import json
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

MAX_OUTPUT_JSON = 64 * 1024


def main(app_name: str, task_name: str, result_file: str) -> int:
    """Execute the task, write what came of it and return the exit code."""
    if folder := os.environ.get("SCHEDULER_CELERY_DIR"):
        sys.path.insert(0, folder)
    from celery.app.task import Task
    from celery.app.utils import find_app

    app = find_app(app_name)
    app.loader.import_default_modules()
    app.finalize(auto=True)
    if task_name not in app.tasks:
        return _write(result_file, 127, {"kind": "unknown", "detail": f"{app_name} has no task {task_name}."})
    Task.retry = _retry
    _let_term_end_the_task()
    params = json.loads(os.environ["SCHEDULER_PARAMS"])
    ended = app.tasks[task_name].apply(
        args=params.get("args", []),
        kwargs=params.get("kwargs", {}),
        task_id=f"scheduler-run-{os.environ['SCHEDULER_RUN_ID']}",
        retries=int(os.environ["SCHEDULER_ATTEMPT"]) - 1,
        throw=False,
    )
    if ended.state == "SUCCESS":
        return _write(result_file, 0, _returned(ended.result))
    if ended.state == "IGNORED":
        return _write(result_file, 0, {"kind": "returned", "value": None})
    _say(str(ended.traceback or ended.result).rstrip())
    if ended.state == "RETRY":
        return _write(result_file, 75, _asked_again(ended.result))
    return _write(result_file, 1, {"kind": "raised"} | _facts(ended.result))


def _returned(value: Any) -> dict[str, Any]:
    """What the task returned; what JSON does not know (a date, a Decimal) as its text."""
    try:
        text = json.dumps(value, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        _say(f"The returned value cannot be kept as output: {error}.")
        return {"kind": "returned", "value": None}
    if len(text) > MAX_OUTPUT_JSON:
        _say(f"The returned value is not kept as output: {len(text)} bytes of JSON.")
        return {"kind": "returned", "value": None}
    return {"kind": "returned", "value": json.loads(text)}


def _asked_again(retry: Any) -> dict[str, Any]:
    facts = _facts(retry.exc) if isinstance(retry.exc, BaseException) else {"detail": "", "exceptions": []}
    return {"kind": "retry", "seconds": max(float(retry.when), 0.0)} | facts


def _facts(error: BaseException) -> dict[str, Any]:
    name = type(error).__name__
    kinds = type(error).__mro__[:-1]
    names = [k.__qualname__ if k.__module__ == "builtins" else f"{k.__module__}.{k.__qualname__}" for k in kinds]
    return {"detail": (f"{name}: {error}" if str(error) else name)[:2000], "exceptions": names[:50]}


def _retry(
    task: Any,
    args: Any = None,
    kwargs: Any = None,
    exc: Any = None,
    throw: bool = True,
    eta: Any = None,
    countdown: float | None = None,
    max_retries: int | None = None,
    **_options: Any,
) -> Any:
    """Takes the place of Task.retry: the wait is handed to the scheduler instead of a message to a broker."""
    from datetime import datetime

    from celery.exceptions import MaxRetriesExceededError, Retry

    most = task.max_retries if max_retries is None else max_retries
    if most is not None and task.request.retries >= most:
        if exc:
            raise exc
        raise MaxRetriesExceededError(f"Can't retry {task.name}[{task.request.id}] args:{args} kwargs:{kwargs}")
    if eta is not None:
        seconds = (eta - datetime.now(eta.tzinfo)).total_seconds()
    else:
        seconds = task.default_retry_delay if countdown is None else countdown
    asked = Retry(exc=exc if exc is not None else sys.exc_info()[1], when=seconds)
    if throw:
        raise asked
    return asked


def _let_term_end_the_task() -> None:
    """A cancel and a time limit arrive as TERM, and the task as what Celery's own soft limit raises."""

    def end(_number: int, _frame: Any) -> NoReturn:
        from celery.exceptions import SoftTimeLimitExceeded

        raise SoftTimeLimitExceeded

    signal.signal(signal.SIGTERM, end)


def _write(result_file: str, code: int, result: dict[str, Any]) -> int:
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")
    return code


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
