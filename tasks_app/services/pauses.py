"""Pauses of tasks: begun by people or by too many failures, ended by people or by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext as _

from access_app import audit
from access_app.actors import Actor, system_actor
from access_app.roles import Verb, require
from tasks_app import rowset
from tasks_app.errors import InvalidInput, WrongState
from tasks_app.models import Schedule, Task
from tasks_app.models.task import PauseMode
from tasks_app.pauses import pause_at
from tasks_app.retry import should_auto_pause
from tasks_app.services.locks import locked_task
from tasks_app.wakeup import nudge

FARTHEST_UNTIL = timedelta(days=3660)
BATCH = 1000
COLUMNS = ("paused", "paused_reason", "pause_mode", "paused_until")
_OVER: dict[str, Any] = {
    "paused": False,
    "paused_reason": "",
    "pause_mode": PauseMode.DROP.value,
    "paused_until": None,
    # What failed before somebody looked after it is no reason to pause it again at once.
    "failures_in_a_row": 0,
}


def pause(
    actor: Actor,
    task: Task,
    *,
    now: datetime,
    reason: str = "",
    until: datetime | None = None,
    mode: str = PauseMode.DROP,
) -> Task:
    """Pause the task, until `until` (aware; None: until it is resumed). A pause that stands is replaced.

    `drop`: nothing of it starts, its instants meanwhile are recorded as skipped. `queue`: they become runs, which wait.
    `drain`: what waits is done, nothing new is taken. Raises InvalidInput at the field that is wrong.
    """
    require(actor, Verb.PAUSE, task.project_id)
    if "\x00" in reason:
        raise InvalidInput(reason=_("This must not contain a NUL character."))
    if mode not in PauseMode.values:
        raise InvalidInput(mode=_("Choose one of: %(names)s.") % {"names": ", ".join(PauseMode.values)})
    if until is not None and not now < until <= now + FARTHEST_UNTIL:
        raise InvalidInput(until=_("The end of the pause must lie in the future, at most ten years ahead."))
    with transaction.atomic():
        task = locked_task(task)
        task.paused, task.paused_reason, task.pause_mode, task.paused_until = True, reason[:500], mode, until
        task.save(update_fields=[*COLUMNS, "updated_at"])
        audit.append(actor, "pause", task, now=now, after=_described(task.paused_reason, mode, until))
        nudge()
    return task


def resume(actor: Actor, task: Task, *, now: datetime) -> Task:
    """Let a paused task go on: waiting runs start as its overlap policy allows, schedules fire from now on."""
    require(actor, Verb.PAUSE, task.project_id)
    with transaction.atomic():
        task = locked_task(task)
        for name, value in _OVER.items():
            setattr(task, name, value)
        task.save(update_fields=[*_OVER, "updated_at"])
        audit.append(actor, "resume", task, now=now, after={"reason": ""})
        nudge()
    return task


def require_taking_runs(task: Task, now: datetime) -> None:
    """Raises WrongState when the task is drained: nobody may ask for a new run of it then."""
    if pause_at(task, now) == PauseMode.DRAIN:
        raise WrongState(
            _("The task %(name)s is being drained and takes no new runs; resume it first.") % {"name": task.name},
            pause_mode=PauseMode.DRAIN.value,
        )


def resume_due(now: datetime, *, limit: int = BATCH) -> int:
    """Clear the pauses that are over by the clock. Returns how many.

    Nothing waits for this: pauses.pause_at reads them as over already. Any number of dispatchers may do it at once.
    Instants that fell into the pause and are not answered yet, as after an outage, still need it to be known.
    """
    unanswered = Schedule.objects.filter(task=OuterRef("pk"), enabled=True, next_fire_at__lt=OuterRef("paused_until"))
    due = Task.objects.filter(~Exists(unanswered), paused=True, paused_until__isnull=False, paused_until__lte=now)
    if not due.exists():
        return 0
    with transaction.atomic():
        rows = due.order_by("paused_until").select_for_update(of=("self",), no_key=True, skip_locked=True)
        tasks = list(rows[:limit])
        if not tasks:
            return 0
        Task.objects.filter(pk__in=[task.pk for task in tasks]).update(**_OVER, updated_at=now)
        over = {"reason": "The pause was to last until then."}
        audit.append_all(system_actor(), "resume", [(task, over) for task in tasks], now=now)
        nudge()
    return len(tasks)


def count_failures(failures: Mapping[int, int], tasks: Mapping[int, Task], *, now: datetime) -> int:
    """Record how many runs of each task (by id) have failed in a row, and pause those of which too many did.

    `tasks` are these, under their locks. Instants in such a pause are skipped, with an entry each in the ledger: a task
    that fails is not to come back to a backlog of hours. Returns how many were paused; three statements at most.
    """
    changed = {pk: count for pk, count in failures.items() if tasks[pk].failures_in_a_row != count}
    if changed:
        columns = {"id": "bigint", "count": "int"}
        with connection.cursor() as cursor:
            cursor.execute(
                f"""UPDATE tasks_app_task AS task SET failures_in_a_row = k.count
                FROM {rowset.table("k", columns)} WHERE task.id = k.id""",
                [rowset.encode({"id": pk, "count": count} for pk, count in changed.items())],
            )
    failing = [
        pk
        for pk, count in failures.items()
        if pause_at(tasks[pk], now) is None and should_auto_pause(count, tasks[pk].auto_pause_after)
    ]
    if failing:
        _pause_failing({pk: f"{failures[pk]} runs in a row have failed." for pk in failing}, tasks, now)
    return len(failing)


def _pause_failing(reasons: Mapping[int, str], tasks: Mapping[int, Task], now: datetime) -> None:
    mode = PauseMode.DROP.value
    columns = {"id": "bigint", "reason": "text"}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""UPDATE tasks_app_task AS task SET paused = %s, paused_reason = k.reason, pause_mode = %s,
            paused_until = NULL, updated_at = %s FROM {rowset.table("k", columns)} WHERE task.id = k.id""",
            [True, mode, rowset.moment(now), rowset.encode({"id": pk, "reason": why} for pk, why in reasons.items())],
        )
    entries = [(tasks[pk], _described(why, mode, None)) for pk, why in reasons.items()]
    audit.append_all(system_actor(), "pause", entries, now=now)


def _described(reason: str, mode: str, until: datetime | None) -> dict[str, Any]:
    return {"reason": reason, "mode": str(mode), "until": until.isoformat() if until else None}
