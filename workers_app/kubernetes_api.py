"""The few calls of the Kubernetes API that a Job takes, over its REST interface."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from django.conf import settings

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = httpx.Timeout(10.0)
# While a log is followed nothing may come for long; who wants to stop closes the connection.
_FOLLOW = httpx.Timeout(10.0, read=None)
NOT_FOUND = 404
MAX_HELD = 64 * 1024


class KubernetesError(Exception):
    """The API refused, or cannot be reached (`status` 0)."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Piece(NamedTuple):
    """A line of a log, or a part of a long one: the time before it, which only its first part has, and its bytes."""

    at: str
    text: bytes


def pieces(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Cut `TIME TEXT` lines out of the chunks; of a line without an end no more than MAX_HELD bytes are kept."""
    held, begun = b"", False
    for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield _piece(line + b"\n", begun)
            begun = False
        if len(held) > MAX_HELD:
            yield _piece(held, begun)
            held, begun = b"", True
    if held:
        yield _piece(held, begun)


def _piece(line: bytes, begun: bool) -> Piece:
    at, space, text = line.partition(b" ")
    return Piece("", line) if begun or not space else Piece(at.decode("ascii", "replace"), text)


class Cluster:
    """One namespace of a cluster: of the one that this worker runs in, or the one that the settings name."""

    def __init__(self) -> None:
        self._namespace = settings.SCHEDULER_KUBERNETES_NAMESPACE or _read("namespace") or "default"
        self._client = httpx.Client(
            base_url=settings.SCHEDULER_KUBERNETES_URL, verify=_trust(), trust_env=False, timeout=_TIMEOUT
        )

    def create_job(self, body: dict[str, Any]) -> dict[str, Any]:
        """The Job as it was made. Raises KubernetesError."""
        return self._ask("POST", f"/apis/batch/v1/namespaces/{self._namespace}/jobs", json=body)

    def create_secret(self, body: dict[str, Any]) -> None:
        """Raises KubernetesError."""
        self._ask("POST", f"/api/v1/namespaces/{self._namespace}/secrets", json=body)

    def own_secret(self, name: str, owner: dict[str, Any]) -> None:
        """Let the cluster remove the Secret with its owner. Raises KubernetesError."""
        path = f"/api/v1/namespaces/{self._namespace}/secrets/{name}"
        patch = {"metadata": {"ownerReferences": [owner]}}
        self._ask("PATCH", path, json=patch, headers={"Content-Type": "application/merge-patch+json"})

    def delete_secret(self, name: str) -> None:
        """Fine where it is gone. Raises KubernetesError."""
        self._gone(f"/api/v1/namespaces/{self._namespace}/secrets/{name}", {})

    def jobs(self, selector: str) -> list[dict[str, Any]]:
        """Raises KubernetesError."""
        path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
        return list(self._ask("GET", path, params={"labelSelector": selector})["items"])

    def delete_job(self, name: str, *, grace: int | None = None) -> None:
        """Have the Job and its pods ended, which get `grace` seconds, where given. Fine where it is gone."""
        body: dict[str, Any] = {"propagationPolicy": "Foreground"}
        self._gone(f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{name}", body)
        if grace is not None:
            for pod in self.pods(name):
                path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}"
                self._gone(path, {"gracePeriodSeconds": grace})

    def pods(self, job: str) -> list[dict[str, Any]]:
        """The pods of the Job. Raises KubernetesError."""
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return list(self._ask("GET", path, params={"labelSelector": f"job-name={job}"})["items"])

    def follow(self, pod: str, since: str | None) -> Iterator[Piece]:
        """The log of the pod as it comes, until the pod ends; from the second of `since` on, where given.

        Raises KubernetesError.
        """
        params = {"follow": "true", "timestamps": "true", "container": "run"}
        if since is not None:
            params["sinceTime"] = since
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log"
        try:
            with self._client.stream("GET", path, params=params, headers=self._headers(), timeout=_FOLLOW) as response:
                if response.is_error:
                    response.read()
                    raise KubernetesError(response.status_code, _message(response))
                yield from pieces(response.iter_raw())
        except httpx.HTTPError as error:
            raise KubernetesError(0, f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connections, also one whose log is being followed in another thread."""
        self._client.close()

    def _gone(self, path: str, body: dict[str, Any]) -> None:
        try:
            self._ask("DELETE", path, json=body)
        except KubernetesError as error:
            if error.status != NOT_FOUND:
                raise

    def _ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **rest: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, headers={**self._headers(), **(headers or {})}, **rest)
            if response.is_error:
                raise KubernetesError(response.status_code, _message(response))
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise KubernetesError(0, f"{type(error).__name__}: {error}") from error
        return answer

    def _headers(self) -> dict[str, str]:
        # Read each time: a cluster exchanges the token of an account every hour.
        token = settings.SCHEDULER_KUBERNETES_TOKEN or _read("token")
        return {"Authorization": f"Bearer {token}"} if token else {}


def _trust() -> ssl.SSLContext | bool:
    own = settings.SCHEDULER_KUBERNETES_CA or (str(ACCOUNT / "ca.crt") if (ACCOUNT / "ca.crt").exists() else "")
    return ssl.create_default_context(cafile=own) if own else httpx.create_ssl_context(trust_env=False)


def _read(name: str) -> str:
    path = ACCOUNT / name
    return path.read_text().strip() if path.exists() else ""


def _message(response: httpx.Response) -> str:
    try:
        return f"{response.status_code}: {response.json()['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
