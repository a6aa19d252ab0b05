"""Objects in a bucket of S3, or of anything that speaks its language (MinIO, Ceph, R2): put, get, delete."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from tasks_app.output_stores import StoreFault
from tasks_app.output_stores.signature import Credentials, quoted, signed_headers

TIMEOUT_SECONDS = 20.0
_MISSING = 404


class S3Store:
    """Addresses are by path (`https://host/bucket/key`), which every implementation understands. Thread-safe."""

    def __init__(self, name: str, bucket: str, prefix: str) -> None:
        self.name = name
        self._path = f"/{bucket}/{prefix.strip('/')}/" if prefix.strip("/") else f"/{bucket}/"
        self._credentials = Credentials(
            settings.SCHEDULER_S3_ACCESS_KEY, settings.SCHEDULER_S3_SECRET_KEY, settings.SCHEDULER_S3_REGION
        )
        self._endpoint = (
            settings.SCHEDULER_S3_ENDPOINT or f"https://s3.{settings.SCHEDULER_S3_REGION}.amazonaws.com"
        ).rstrip("/")
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def put(self, key: str, data: bytes) -> None:
        self._ask("PUT", key, data)

    def get(self, key: str) -> bytes:
        return self._ask("GET", key).content

    def delete(self, key: str) -> None:
        self._ask("DELETE", key, missing_is_fine=True)

    def _ask(self, method: str, key: str, body: bytes = b"", *, missing_is_fine: bool = False) -> httpx.Response:
        path = self._path + key
        host = urlsplit(self._endpoint).netloc
        headers = signed_headers(method, host, path, body, self._credentials, now=datetime.now(UTC), more={})
        try:
            response = self._connection().request(
                method, self._endpoint + quoted(path), content=body if method == "PUT" else None, headers=headers
            )
        except httpx.HTTPError as error:
            raise StoreFault(f"{self._endpoint}: {type(error).__name__}: {error}") from error
        if response.is_success or (missing_is_fine and response.status_code == _MISSING):
            return response
        raise StoreFault(f"{method} {path}: the store answered {response.status_code}: {response.text[:300]}")

    def _connection(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)
            return self._client
