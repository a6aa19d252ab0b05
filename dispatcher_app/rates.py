"""Starts that no rate counts any more are forgotten."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection

from tasks_app import rowset

# Tasks that have started under a rate, found by jumps through the index, with the longest window that still counts.
_WINDOWS = """WITH RECURSIVE rated(task_id) AS (
    SELECT min(task_id) FROM tasks_app_ratestart
    UNION ALL
    SELECT (SELECT min(start.task_id) FROM tasks_app_ratestart AS start WHERE start.task_id > rated.task_id)
    FROM rated WHERE rated.task_id IS NOT NULL)
    SELECT task.id, coalesce(task.rate_window_seconds, 0), (SELECT coalesce(max(resource.rate_window_seconds), 0)
        FROM tasks_app_taskresource AS used JOIN tasks_app_resource AS resource ON resource.id = used.resource_id
        WHERE used.task_id = task.id)
    FROM rated JOIN tasks_app_task AS task ON task.id = rated.task_id"""


def forget_starts(now: datetime) -> int:
    """Delete the starts that have left the window of their task's rate and of each resource that the task uses; where
    there is no rate any more, all of them. Returns how many.
    """
    with connection.cursor() as cursor:
        cursor.execute(_WINDOWS)
        windows = [(task_id, max(own, shared)) for task_id, own, shared in cursor.fetchall()]
        if not windows:
            return 0
        keys = rowset.encode({"id": id, "until": now - timedelta(seconds=seconds)} for id, seconds in windows)
        cursor.execute(
            f"""DELETE FROM tasks_app_ratestart WHERE id IN (SELECT start.id
            FROM {rowset.table("k", {"id": "bigint", "until": "timestamptz"})}
            JOIN tasks_app_ratestart AS start ON start.task_id = k.id AND start.at <= k.until)""",
            [keys],
        )
        return int(cursor.rowcount)
