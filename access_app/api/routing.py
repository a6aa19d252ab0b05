"""Addresses with and without a trailing slash, without a redirect and once in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, path
from django.views import View


def routes(*pairs: tuple[str, type[View]], **options: Any) -> list[URLPattern]:
    """The URL patterns for (path without trailing slash, view class) pairs; `options` go to `as_view`."""
    patterns = []
    for route, view in pairs:
        patterns.append(path(route, view.as_view(**options)))
        # drf-spectacular leaves out a view whose schema is None.
        patterns.append(path(f"{route}/", view.as_view(**options, schema=None)))
    return patterns
