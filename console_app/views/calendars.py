"""`/calendars/`: which times are open, and who goes by them?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone

from access_app.actors import Actor
from console_app.door import page
from console_app.views.calendar_edit import may_create
from tasks_app import calendar_rows, queries
from tasks_app.calendar_documents import CalendarError
from tasks_app.calendar_rows import Found
from tasks_app.models import Calendar
from tasks_app.services import calendars

PAGE_SIZE = 50


@page
def calendar_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    schedules = queries.schedules_visible_to(actor).filter(calendar=OuterRef("pk")).order_by()
    count = schedules.values("calendar").annotate(n=Count("pk")).values("n")
    visible = queries.calendars_visible_to(actor).annotate(used_by=Coalesce(Subquery(count), 0)).order_by("name", "pk")
    shown = Paginator(visible, PAGE_SIZE).get_page(request.GET.get("page"))
    found, now = calendar_rows.load(calendar.pk for calendar in shown), timezone.now()
    rows = [(calendar, _state(calendar, found, now)) for calendar in shown]
    context = {"page": shown, "rows": rows, "may_create": may_create(actor)}
    return render(request, "console/calendars.html", context)


def _state(calendar: Calendar, found: Found, now: datetime) -> dict[str, Any]:
    """Whether it is open now, and when that changes next; or what is wrong with it."""
    try:
        rules = found.of(calendar.pk)
    except CalendarError as error:
        return {"error": str(error), "change": None}
    assert rules is not None
    coming = calendars.openings(rules, now, 1)
    if not coming:
        return {"open": False, "change": None}
    start, end = coming[0]
    return {"open": start == now, "change": end if start == now else start}
