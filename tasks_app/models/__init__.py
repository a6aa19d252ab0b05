"""One noun per file."""

from tasks_app.models.backfill import Backfill
from tasks_app.models.calendar import Calendar
from tasks_app.models.ending import EndStep, WorkerDeath
from tasks_app.models.output import StoredOutput
from tasks_app.models.project import Project
from tasks_app.models.resource import Pool, RateStart, Resource, TaskResource
from tasks_app.models.run import Run, RunDependency, RunEvent, RunOutput, RunPeriod
from tasks_app.models.schedule import LedgerEntry, Schedule
from tasks_app.models.task import Task, TaskDependency, TaskVersion

__all__ = [
    "Backfill",
    "Calendar",
    "EndStep",
    "LedgerEntry",
    "Pool",
    "Project",
    "RateStart",
    "Resource",
    "Run",
    "RunDependency",
    "RunEvent",
    "RunOutput",
    "RunPeriod",
    "Schedule",
    "StoredOutput",
    "Task",
    "TaskDependency",
    "TaskResource",
    "TaskVersion",
    "WorkerDeath",
]
