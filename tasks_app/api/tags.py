"""Entity tags at the door: `ETag` of an answer, `If-Match` of an edit."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from tasks_app.models import Schedule, Task
from tasks_app.services.tags import etag

IF_MATCH = OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="The ETag that the edit is based on.")


def expected_tag(request: Request, row: Task | Schedule) -> str | None:
    """The entity tag that If-Match asks for, or None when it asks for none. Of several, the one that fits."""
    header: str = request.META.get("HTTP_IF_MATCH", "").strip()
    if header in ("", "*"):
        return None
    tags = [tag.strip() for tag in header.split(",")]
    current = etag(row)
    return current if current in tags else tags[0]
