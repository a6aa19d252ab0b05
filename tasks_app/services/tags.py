"""Entity tags: which state of a task or schedule somebody has read and now edits."""

from __future__ import annotations

from tasks_app.errors import StaleEdit
from tasks_app.models import Schedule, Task


def etag(row: Task | Schedule) -> str:
    """A strong entity tag that changes with every edit: of a schedule, or of a task or one of its schedules."""
    return f'"{row.pk}-{row.updated_at.timestamp():.6f}"'


def check_tag(row: Task | Schedule, expected: str | None) -> None:
    """Raises StaleEdit unless this is the tag of the row, which the caller holds locked; None fits any."""
    if expected is not None and expected != etag(row):
        raise StaleEdit
