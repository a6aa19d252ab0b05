"""Change tags: a text that stays the same while a region would, from a few reads by primary key."""

from __future__ import annotations

from django.db.models import Max, Min
from django.utils import timezone
from django.utils.translation import get_language

from access_app.models import AuditEntry
from console_app import alive
from dispatcher_app.models import Dispatcher
from tasks_app.models import EndStep, Resource, RunEvent, Schedule
from workers_app.models import Worker

# Event ids are drawn before they are committed, so a late commit can leave the newest id as it was: no region is ever
# older than this.
LONGEST_SILENCE_SECONDS = 20


def everything() -> str:
    """Changes with every change of a run's state and with everything that somebody did."""
    event = RunEvent.objects.order_by("-pk").values_list("pk", flat=True).first()
    entry = AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first()
    beat = int(timezone.now().timestamp()) // LONGEST_SILENCE_SECONDS
    return f"{get_language()}.{beat}.{event or 0}.{entry or 0}"


def of_run() -> str:
    """For the page of a run, which also shows the steps by which it is being ended."""
    step = EndStep.objects.order_by("-pk").values_list("pk", flat=True).first()
    return f"{everything()}.{step or 0}"


def of_lists() -> str:
    """For lists of runs and tasks, which also show next fires."""
    armed = Schedule.objects.filter(enabled=True, next_fire_at__isnull=False)
    first = armed.aggregate(first=Min("next_fire_at"))["first"]
    return f"{everything()}.{first.timestamp() if first else 0}"


def of_overview() -> str:
    return f"{of_lists()}.{alive.workers(timezone.now()).count()}"


def of_workers() -> str:
    beats = Worker.objects.aggregate(last=Max("beat_at"))["last"]
    ticks = Dispatcher.objects.aggregate(last=Max("beat_at"))["last"]
    return f"{everything()}.{beats}.{ticks}"


def of_limits() -> str:
    """For pools and resources: a dispatcher turns a breaker without a run or a person to show for it."""
    turned = Resource.objects.aggregate(last=Max("breaker_changed_at"))["last"]
    return f"{everything()}.{turned}"
