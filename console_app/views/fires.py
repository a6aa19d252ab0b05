"""`/tasks/<id>/fires/`: did everything run that should have? One day of a task, hour by hour and instant by instant."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.utils import timezone

from access_app.actors import Actor
from console_app import pulse
from console_app.door import live, page, show
from console_app.links import number, with_query, without_blanks
from tasks_app import fires, queries
from tasks_app.api.fires import cursor_of, place_of
from tasks_app.cron import zone
from tasks_app.errors import InvalidInput, NotFound
from tasks_app.fire_answers import Answer
from tasks_app.fire_counts import Summary, Tally, day_of, summary
from tasks_app.fire_words import answer_words, equation
from tasks_app.fires import Fire, Place, Scope
from tasks_app.models import Task

PAGE_SIZE = 120
BAR_HEIGHT = 40
DAY = timedelta(days=1)


@page
@live(pulse.of_lists)
def fire_list(request: HttpRequest, actor: Actor, pk: int) -> HttpResponseBase:
    task = queries.get_visible(queries.tasks_visible_to(actor), pk)
    query, now = without_blanks(request.GET), timezone.now()
    schedules = list(task.schedules.order_by("pk"))
    chosen = number(query, "schedule")
    scope = _scope(task, chosen)
    time_zone = scope.rules[0].schedule.time_zone if scope.rules else settings.SCHEDULER_TIME_ZONE
    today = day_of(now, time_zone)
    day = _day(query, today)
    found = summary(scope, day, time_zone, now=now)
    hour = _hour(query, found)
    shown = found.hours[hour] if hour is not None else found
    answer = query.get("answer") if query.get("answer") in list(Answer) else None
    rows = fires.read(
        scope,
        shown.start,
        shown.end,
        now=now,
        limit=PAGE_SIZE,
        answers={answer} if answer else (),
        after=_place(query),
    )
    local = zone(time_zone)
    context = {
        "task": task,
        "day": day,
        "time_zone": time_zone,
        "is_today": day == today,
        "is_future": found.start > now,
        "schedules": schedules,
        "schedule_id": chosen,
        "equation": equation(found),
        "summary": found,
        "unanswered": found.of(Answer.UNANSWERED),
        "stretches": [_row(fire, local) for fire in found.stretches],
        "hours": _bars(found, local, query, hour),
        "hour": _clock(shown, local) if hour is not None else None,
        "tabs": _tabs(shown, query, answer),
        "rows": [_row(fire, local) for fire in rows.fires if fire.count == 1 or fire not in found.stretches],
        "next": with_query(query, after=cursor_of(rows.after)).urlencode() if rows.after else None,
        "first": with_query(query, after=None).urlencode() if "after" in query else None,
        "whole_day": _query(query, hour=None),
        "day_before": _query(query, day=day - DAY, hour=None) if day > date.min else None,
        "day_after": _query(query, day=day + DAY, hour=None) if day < today else None,
    }
    return show(request, "fires", context)


def _scope(task: Task, schedule_id: int | None) -> Scope:
    if schedule_id is None:
        return fires.of_task(task)
    return fires.of_schedule(queries.get_visible(task.schedules.select_related("task"), schedule_id))


def _day(query: QueryDict, today: date) -> date:
    with suppress(ValueError):
        day = date.fromisoformat(query.get("day", ""))
        if 1970 < day.year < 9000:
            return day
    if "day" in query:
        raise NotFound
    return today


def _hour(query: QueryDict, found: Summary) -> int | None:
    hour = number(query, "hour")
    return hour if hour is not None and hour < len(found.hours) else None


def _place(query: QueryDict) -> Place | None:
    try:
        return place_of(query.get("after", "")) if "after" in query else None
    except InvalidInput as error:
        raise NotFound from error


def _query(query: QueryDict, **changes: Any) -> str:
    return with_query(query, **{"after": None, **changes}).urlencode()


def _clock(tally: Tally, local: tzinfo) -> str:
    start, end = tally.start.astimezone(local), tally.end.astimezone(local)
    return f"{start:%H:%M}–{end:%H:%M}"


def _bars(found: Summary, local: tzinfo, query: QueryDict, chosen: int | None) -> list[dict[str, Any]]:
    """A bar for each hour: its parts from the ground up, in the units of a drawing 40 high."""
    most = max([hour.expected + hour.to_come for hour in found.hours] + [1])
    bars = []
    for place, hour in enumerate(found.hours):
        parts, ground = [], float(BAR_HEIGHT)
        by_answer = [(answer, hour.of(answer)) for answer in Answer if hour.of(answer)]
        for name, n in [*by_answer, ("to_come", hour.to_come)]:
            # One that was missed among thousands that ran must be seen all the same.
            height = max(BAR_HEIGHT * n / most, 2.0) if n else 0.0
            height = min(height, ground)
            ground -= height
            if height:
                parts.append({"answer": name, "y": round(ground, 2), "height": round(height, 2)})
        bars.append(
            {
                "label": f"{_clock(hour, local)}: {equation(hour)}",
                "tick": f"{hour.start.astimezone(local):%H}" if place % 3 == 0 else "",
                "parts": parts,
                "current": place == chosen,
                "query": _query(query, hour=place),
            }
        )
    return bars


def _tabs(shown: Tally, query: QueryDict, chosen: str | None) -> list[dict[str, Any]]:
    tabs = [{"answer": None, "count": shown.expected, "current": chosen is None, "query": _query(query, answer=None)}]
    for answer in Answer:
        n = shown.of(answer)
        if n or answer in (chosen, Answer.RUN):
            current, link = answer == chosen, _query(query, answer=answer.value)
            tabs.append({"answer": f"fire_{answer.value}", "count": n, "current": current, "query": link})
    return tabs


def _row(fire: Fire, local: tzinfo) -> dict[str, Any]:
    return {
        "fire": fire,
        "local": _local(fire.nominal_at, local),
        "last": _local(fire.last_at, local) if fire.last_at else "",
        "look": f"fire_{fire.answer}",
        "words": answer_words(fire.answer, fire.reason) if fire.answer != Answer.RUN else "",
    }


def _local(moment: datetime, local: tzinfo) -> str:
    return moment.astimezone(local).isoformat(sep=" ", timespec="seconds")
