"""Random bodies and queries, sent everywhere: whatever they are, the server has an answer."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tasks_app.api import bodies
from tasks_app.api.dependency_bodies import DependencyBody
from tests.api.test_access import ADDRESSES, BODIES, filled, objects

__all__ = ["objects"]

SERIALIZERS = (bodies.TaskBody, bodies.TriggerBody, bodies.TriggerBatchBody, bodies.PreviewBody, DependencyBody)
FIELDS = sorted(
    {str(name) for serializer in SERIALIZERS for name in serializer().fields} | {"slots", "role", "expires_at"}
)
PARAMETERS = ["limit", "cursor", "ordering", "task", "state", "project", "name", "offset", "attempt", "count", "paused"]
VALUES: list[Any] = [None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, 1e300, "", "x", "é", "\u202e", "x" * 300]
VALUES += [[], {}, [{}], ["a"], {"a": {"b": [1]}}, "default", "analytics", "shell", "http", "callable", "UTC"]
VALUES += [
    "2026-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "1970-01-01T00:00:00+23:59",
    "http://[::1",
    "http://a:99999/",
]
VALUES += ["* * * * *", "H H * * *", "@daily", "0 0 L * *", "*/0 * * * *", "0 0 30 2 *", "interval", "once", "cron"]
QUERY_VALUES = [
    "",
    "0",
    "1",
    "-1",
    "9" * 20,
    "x",
    "%00",
    "true",
    "2026-01-01",
    "1.5",
    "NaN",
    "1e5",
    "%D9%A3",
    "id",
    "-id",
]
# One would end the objects that the others need; two answer other things than JSON, and slowly.
ASKED = [a for a in ADDRESSES if a[0] != "DELETE" and a[1] not in ("api/schema", "api/docs", "health/ready", "metrics")]


@pytest.mark.parametrize("seed", range(2))
def test_no_request_breaks_the_server(api, root_user, objects, seed):
    client, chance = api(root_user), random.Random(seed)
    for _turn in range(400):
        method, route = chance.choice(ASKED)
        path = filled(route, objects)
        body = None
        if method == "GET":
            pairs = [f"{chance.choice(PARAMETERS)}={chance.choice(QUERY_VALUES)}" for _ in range(chance.randint(0, 2))]
            path += "?" + "&".join(pairs)
        else:
            body = dict(BODIES.get((method, route)) or {})
            for _ in range(chance.randint(0, 3)):
                body[chance.choice([*body, *FIELDS])] = chance.choice(VALUES)
        response = client.send(method, path, body)
        assert response.status_code < 500, (method, path, body)
