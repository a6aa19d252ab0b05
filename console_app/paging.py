"""Paging by id: new rows never shift a page."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model, QuerySet
from django.http import QueryDict

from console_app.links import number

PAGE_SIZE = 50
M = TypeVar("M", bound=Model)


def by_id(rows: QuerySet[M], query: QueryDict) -> tuple[list[M], int | None, int | None]:
    """One page, newest first, and the ids that lead to the newer and the older one (None at the ends)."""
    before, after = number(query, "before"), number(query, "after")
    if after is not None:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: PAGE_SIZE + 1])
        has_newer = len(found) > PAGE_SIZE
        shown = found[:PAGE_SIZE][::-1]
        return shown, shown[0].pk if has_newer else None, shown[-1].pk if shown else None
    found = list((rows.filter(pk__lt=before) if before is not None else rows).order_by("-pk")[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE]
    newer = shown[0].pk if before is not None and shown else None
    return shown, newer, shown[-1].pk if len(found) > PAGE_SIZE else None
