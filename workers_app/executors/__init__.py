"""One file for each executor; each offers `execute(job, control, sink) -> Result`."""

from __future__ import annotations

from collections.abc import Callable

from workers_app.jobs import Control, Job, Result
from workers_app.output import OutputSink

Execute = Callable[[Job, Control, OutputSink], Result]


def implementation(name: str) -> Execute:
    """The execute function of an executor; imported when first needed. Raises KeyError for one that is not ours."""
    # Written out, not by import_module(name): a name from the database must never choose what is imported.
    if name == "shell":
        from workers_app.executors import shell

        return shell.execute
    if name == "python":
        from workers_app.executors import python

        return python.execute
    if name == "http":
        from workers_app.executors import http

        return http.execute
    if name == "callable":
        from workers_app.executors import callable as callable_executor

        return callable_executor.execute
    if name == "celery":
        from workers_app.executors import celery_task

        return celery_task.execute
    if name == "sql":
        from workers_app.executors import sql

        return sql.execute
    if name == "container":
        from workers_app.executors import container

        return container.execute
    raise KeyError(name)
