"""Child of firing.py: makes schedules that are all due at one time. `python -m benchmarks.fill SIDE COUNT AT RULES`.

SIDE is ours or peer, AT a full minute in ISO 8601, RULES same (all have one cron expression) or distinct (no two do).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import combinations, islice, product

BATCH = 2000


def expressions(at: datetime, rules: str) -> Iterator[tuple[str, str, str]]:
    """Minute, hour and day of week of cron expressions that all fire at `at`, in UTC."""
    if rules == "same":
        while True:
            yield str(at.minute), str(at.hour), "*"
    # None of the minutes before `at`: they would come first.
    other_minutes = [(at.minute + more) % 60 for more in range(1, 50)]
    other_hours = [hour for hour in range(24) if hour != at.hour]
    today = at.isoweekday() % 7
    other_days = [day for day in range(7) if day != today]
    days = [(today, *others) for size in range(7) for others in combinations(other_days, size)]
    for some, minute, hour in product(days, other_minutes, other_hours):
        yield f"{at.minute},{minute}", f"{at.hour},{hour}", ",".join(map(str, some))


def ours(count: int, at: datetime, rules: str) -> None:
    """A task with a version and one schedule each."""
    import django

    django.setup()
    from django.db.models import OuterRef, Subquery

    from tasks_app.models import Pool, Project, Schedule, Task, TaskVersion
    from tasks_app.services.schedules import timing_of

    project, pool = Project.objects.get(name="default"), Pool.objects.get(name="default")
    tasks = Task.objects.bulk_create(
        [Task(project=project, pool=pool, name=f"task {n}") for n in range(count)], batch_size=BATCH
    )
    spec = {"number": 1, "executor": "callable", "command": "workers_app.samples.noop"}
    TaskVersion.objects.bulk_create([TaskVersion(task=task, **spec) for task in tasks], batch_size=BATCH)
    Task.objects.update(version=Subquery(TaskVersion.objects.filter(task=OuterRef("pk")).values("pk")[:1]))
    now = datetime.now(UTC)
    schedules = []
    for task, (minute, hour, day) in zip(tasks, expressions(at, rules), strict=False):
        schedule = Schedule(task=task, expression=f"{minute} {hour} * * {day}", fired_until=now)
        schedule.next_fire_at = timing_of(schedule).next_after(now)
        assert schedule.next_fire_at == at, f"{schedule.expression} is due at {schedule.next_fire_at}"
        schedules.append(schedule)
    Schedule.objects.bulk_create(schedules, batch_size=BATCH)


def peer(count: int, at: datetime, rules: str) -> None:
    """A PeriodicTask each, all on one crontab, or each on one of its own."""
    import django

    django.setup()
    from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

    distinct = list(islice(expressions(at, rules), 1 if rules == "same" else count))
    crontabs = CrontabSchedule.objects.bulk_create(
        [CrontabSchedule(minute=m, hour=h, day_of_week=d, timezone="UTC") for m, h, d in distinct], batch_size=BATCH
    )
    PeriodicTask.objects.bulk_create(
        [
            PeriodicTask(
                name=f"task {n}",
                task="benchmarks.peer.celery.run_job",
                args="[1]",
                crontab=crontabs[n % len(crontabs)],
                last_run_at=datetime.now(UTC),
            )
            for n in range(count)
        ],
        batch_size=BATCH,
    )
    PeriodicTasks.update_changed()


if __name__ == "__main__":
    fill: dict[str, Callable[[int, datetime, str], None]] = {"ours": ours, "peer": peer}
    fill[sys.argv[1]](int(sys.argv[2]), datetime.fromisoformat(sys.argv[3]), sys.argv[4])
