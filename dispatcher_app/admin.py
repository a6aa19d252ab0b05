"""Dispatchers, to look at: each keeps its own row."""

from __future__ import annotations

from django.contrib import admin

from access_app.admin import ReadOnlyAdmin
from dispatcher_app.models import Dispatcher


@admin.register(Dispatcher)
class DispatcherAdmin(ReadOnlyAdmin):
    list_display = ("name", "started_at", "beat_at", "tick_ms")
    search_fields = ("name",)
