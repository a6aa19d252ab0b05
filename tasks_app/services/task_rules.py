"""What limits and retries of a task may be: each mistake at its field."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db.models import Max, Q
from django.utils.translation import gettext as _

from tasks_app import never_retry, routing
from tasks_app.concurrency_keys import check_template
from tasks_app.errors import InvalidInput
from tasks_app.macros import MacroError
from tasks_app.models import Task, TaskVersion
from tasks_app.services.resources import check_rate

LONGEST_DELAY = 30 * 24 * 3600
LONGEST_BUDGET = 3660 * 24 * 3600
# What a run may be limited to, from what a shell needs at least to what no machine has.
RUN_LIMITS = {
    "memory_limit_mb": (4, 16 * 1024 * 1024),
    "cpu_limit_seconds": (1, 30 * 24 * 3600),
    "open_files_limit": (16, 1024 * 1024),
}
MOST_DEATHS = 100
# Their work is done by the worker itself, or elsewhere.
WITHOUT_PROCESS = ("http", "sql")
# A worker that stopped may come back; one that did so longer ago is forgotten.
WORKER_KNOWN_FOR = timedelta(days=1)


MOST_TAGS = 20
LONGEST_TAG = 50


def check_tags(tags: Any) -> None:
    """Raises InvalidInput at `tags` unless they are a few short words."""
    fine = isinstance(tags, list) and len(tags) <= MOST_TAGS and len(set(map(str, tags))) == len(tags)
    if not fine or not all(isinstance(tag, str) and 0 < len(tag) <= LONGEST_TAG and tag.isprintable() for tag in tags):
        raise InvalidInput(tags=_("Give up to 20 different words of up to 50 characters."))


def check_limits(task: Task, version: TaskVersion) -> None:
    """Raises InvalidInput. What the columns themselves refuse, such as numbers below 1, is not looked at here."""
    check_rate(task.rate_limit, task.rate_window_seconds)
    if task.concurrency_key:
        try:
            check_template(task.concurrency_key)
        except MacroError as error:
            raise InvalidInput(concurrency_key=error.message) from error
    routing.check(
        routing=task.routing,
        key=task.routing_key,
        workers=task.routing_workers,
        shards=task.shards,
        required_labels=task.required_labels,
        concurrency_key=task.concurrency_key,
        overlap=task.overlap,
    )
    try:
        never_retry.parse(version.never_retry)
    except never_retry.NeverRetryError as error:
        raise InvalidInput(never_retry=str(error)) from error
    for field in ("retry_delay_seconds", "retry_cap_seconds"):
        if getattr(version, field) > LONGEST_DELAY:
            raise InvalidInput(**{field: _("A delay may be at most 30 days.")})
    _check_run_limits(version)
    if version.retry_budget_seconds is not None and not 1 <= version.retry_budget_seconds <= LONGEST_BUDGET:
        raise InvalidInput(retry_budget_seconds=_("Give 1 second to ten years, or nothing."))


def _check_run_limits(version: TaskVersion) -> None:
    for field, (least, most) in RUN_LIMITS.items():
        value = getattr(version, field)
        if value is None:
            continue
        if version.executor in WITHOUT_PROCESS:
            text = _("A run of the executor %(name)s has no process of its own that could be limited.")
            raise InvalidInput(**{field: text % {"name": version.executor}})
        if not least <= value <= most:
            raise InvalidInput(**{field: _("Give %(least)d to %(most)d, or nothing.") % {"least": least, "most": most}})
    if not 1 <= version.poison_limit <= MOST_DEATHS:
        raise InvalidInput(poison_limit=_("Give 1 to %(most)d.") % {"most": MOST_DEATHS})


def check_weight(task: Task, *, now: datetime) -> None:
    """Raises InvalidInput at `weight` when a run of the task could never start.

    One run is executed by one worker: it needs its weight in slots of the pool, and a worker that has as many. Only
    workers of the last day count; with none known, none can be too small.
    """
    slots = task.pool.slots
    if slots is not None and task.weight > slots:
        raise InvalidInput(
            weight=_("The pool %(pool)s has no more slots than %(n)d.") % {"pool": task.pool.name, "n": slots}
        )
    # Workers live in an app above this one.
    workers = apps.get_model("workers_app", "Worker")._default_manager.filter(pool=task.pool)
    known = workers.filter(Q(stopped_at__isnull=True) | Q(stopped_at__gt=now - WORKER_KNOWN_FOR))
    largest = known.aggregate(most=Max("slots"))["most"]
    if largest is not None and task.weight > largest:
        text = _("The largest worker of the pool %(pool)s has no more slots than %(n)d.")
        raise InvalidInput(weight=text % {"pool": task.pool.name, "n": largest})
