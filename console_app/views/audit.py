"""`/audit/`: who did what to which object? For administrators of the installation."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

from access_app import services
from access_app.actors import Actor
from access_app.filters import AuditFilter
from access_app.models import AuditEntry, AuditHead
from console_app.door import page
from console_app.links import kept, with_query, without_blanks
from console_app.paging import by_id

# A new task has some thirty values, and mostly two or three of them are worth a line.
FIRST = 3
EMPTY = {None, "null", '""', "[]", "{}", "false"}
# Name, value before, value after; None where the entry says nothing of it.
Change = tuple[str, str | None, str | None]
CONTROLS = {"actor", "verb", "object_name", "object_type"}


@page
def audit_list(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    query = without_blanks(request.GET)
    visible = services.audit_entries_visible_to(actor)
    matching = AuditFilter(query, queryset=visible)
    rows, newer, older = by_id(matching.qs if matching.is_valid() else visible.none(), query)
    context = {
        "filter": matching,
        "rows": [(entry, *_changes(entry)) for entry in rows],
        "newer": with_query(query, after=newer, before=None).urlencode() if newer else None,
        "older": with_query(query, before=older, after=None).urlencode() if older else None,
        "filtered": any(name in query for name in AuditFilter.base_filters),
        "kept": kept(query, AuditFilter.base_filters, CONTROLS),
        "head": AuditHead.objects.first(),
    }
    return render(request, "console/audit.html", context)


def _changes(entry: AuditEntry) -> tuple[list[Change], list[Change]]:
    """What the entry tells: the first changes, and the others, with what is empty on both sides at the end."""
    before, after = _told(entry.before), _told(entry.after)
    changes = [(name, before.get(name), after.get(name)) for name in {**before, **after}]
    changes.sort(key=lambda change: {change[1], change[2]} <= EMPTY)
    return changes[:FIRST], changes[FIRST:]


def _told(values: Any) -> dict[str, str]:
    return {name: json.dumps(value, ensure_ascii=False) for name, value in (values or {}).items()}
