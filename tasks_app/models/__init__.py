"""One noun per file."""

from tasks_app.models.project import Project
from tasks_app.models.resource import Pool
from tasks_app.models.run import Run, RunDependency, RunEvent, RunOutput
from tasks_app.models.schedule import LedgerEntry, Schedule
from tasks_app.models.task import Task, TaskDependency, TaskVersion

__all__ = [
    "LedgerEntry",
    "Pool",
    "Project",
    "Run",
    "RunDependency",
    "RunEvent",
    "RunOutput",
    "Schedule",
    "Task",
    "TaskDependency",
    "TaskVersion",
]
