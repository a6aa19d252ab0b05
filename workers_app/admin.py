"""Workers, to look at: they register and leave by themselves."""

from __future__ import annotations

from django.contrib import admin

from access_app.admin import ReadOnlyAdmin
from workers_app.models import Worker


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "host",
        "pid",
        "pool",
        "slots",
        "state",
        "beat_at",
        "lease_until",
        "started_at",
        "stopped_at",
    )
    list_select_related = ("pool",)
    list_filter = ("state", "pool")
    search_fields = ("name", "host")
