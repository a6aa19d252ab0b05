"""The API as a client meets it, and what a problem must look like."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

NOOP = "workers_app.samples.noop"


class Api:
    """The test client with an API key; bodies go out as JSON."""

    def __init__(self, key: str | None) -> None:
        self.client = Client(headers={"X-API-Key": key} if key else {})

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.send("POST", path, body, **options)

    def patch(self, path: str, body: Any, **options: Any) -> Any:
        return self.send("PATCH", path, body, **options)

    def put(self, path: str, body: Any, **options: Any) -> Any:
        return self.send("PUT", path, body, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.client.delete(path, **options)

    def send(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **options: Any) -> Any:
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        kind = options.pop("content_type", "application/json")
        return self.client.generic(method, path, data, content_type=kind, **options)


def default_pool() -> Any:
    from tasks_app.models import Pool

    return Pool.objects.get(name="default")


def is_problem(response: Any, status: int, *fields: str) -> dict[str, Any]:
    """Assert a problem of that status, with these fields among its `errors`; answer its content."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    content: dict[str, Any] = response.json()
    assert content["status"] == status
    assert {"type", "title", "detail", "code"} <= content.keys()
    if fields:
        assert set(fields) <= content["errors"].keys(), content
    return content
