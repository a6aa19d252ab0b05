"""Errors of the core, in the family of access_app.errors."""

from access_app.errors import (
    InvalidInput,
    NotFound,
    PermissionRefused,
    SchedulerError,
    StaleEdit,
    WrongState,
)

__all__ = [
    "BatchTooLarge",
    "DependencyCycle",
    "InvalidInput",
    "NotFound",
    "OutputUnavailable",
    "PermissionRefused",
    "SchedulerError",
    "StaleEdit",
    "WrongState",
]


class DependencyCycle(SchedulerError):
    """These tasks would wait for each other; remove one of the edges on the path."""

    code = "dependency_cycle"
    status = 409


class BatchTooLarge(SchedulerError):
    """The batch holds too many items; send it in several parts."""

    code = "batch_too_large"
    status = 400


class OutputUnavailable(SchedulerError):
    """The store that holds this output does not answer; try again later."""

    code = "output_unavailable"
    status = 503
