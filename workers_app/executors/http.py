"""`http`: one request; expected statuses succeed, `Retry-After` is honoured, private addresses are refused."""

from __future__ import annotations

import json
import re
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpcore
import httpx

from tasks_app import secret_names
from tasks_app.models import EndStep
from tasks_app.states import Reason, RunState
from workers_app.jobs import Control, Job, Result
from workers_app.lines import MAX_OUTPUT_JSON
from workers_app.outbound import AddressRefused, CheckedBackend
from workers_app.output import STDOUT, OutputSink, parse_json

MOST_REDIRECTS = 5
CONNECT_SECONDS = 10.0
_RETRYABLE = frozenset({408, 425, 429, *range(500, 600)})


def execute(job: Job, control: Control, sink: OutputSink) -> Result:
    """Send the request of the job. The time limit covers the whole exchange, and a cancel closes the connection."""
    try:
        params, confidential = _with_secrets(job)
    except KeyError as error:
        sink.close()
        detail = f"The task has no secret {error.args[0]}, to which its parameters refer."
        return Result(RunState.FAILED, Reason.INVALID_PARAMETERS, detail, retryable=False)
    headers = {"User-Agent": "scheduler", "X-Scheduler-Run": str(job.run_id), **params.get("headers", {})}
    body = params.get("body")
    content = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
    if content is not None and not isinstance(body, str):
        headers.setdefault("Content-Type", "application/json")
    backend = CheckedBackend()
    timed_out = threading.Event()

    def give_up() -> None:
        timed_out.set()
        backend.abort()

    timer = threading.Timer(job.timeout_seconds, give_up)
    timer.daemon = True
    timer.start()

    def close() -> None:
        control.took(EndStep.Step.CLOSED)
        backend.abort()

    control.on_end(close)
    try:
        with _client(backend, job.timeout_seconds) as client:
            request = client.build_request(params.get("method", "GET"), job.command, headers=headers, content=content)
            result = _judge(_send(client, request, confidential), params, sink)
        if control.why is not None or timed_out.is_set():
            # Breaking a connection looks like the end of an answer that did not say how long it is.
            return _failure(ConnectionAbortedError(), job, control, timed_out.is_set())
        return result
    except _Confidential as error:
        return Result(RunState.FAILED, Reason.ADDRESS_REFUSED, f"{error}.", retryable=False)
    except AddressRefused as error:
        return Result(RunState.FAILED, Reason.ADDRESS_REFUSED, f"{error}.", retryable=False)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
        return _failure(error, job, control, timed_out.is_set())
    finally:
        timer.cancel()
        backend.close()
        sink.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """Which parts of a request hold secrets: they are for the host of the address alone."""

    headers: frozenset[str] = frozenset()
    body: bool = False


class _Confidential(Exception):
    """What the answer asks for would tell secrets to somebody else."""


def _with_secrets(job: Job) -> tuple[dict[str, Any], _Parts]:
    """The parameters with the secrets that they refer to in headers and body, and where these are. Raises KeyError for
    one that the task does not have."""
    params = job.params
    headers, body = params.get("headers", {}), params.get("body")
    named = frozenset(name for name, value in headers.items() if secret_names.references(value))
    parts = _Parts(named, bool(secret_names.references(body)))
    if not named and not parts.body:
        return params, parts
    put_in = {"headers": secret_names.put_in(headers, job.secrets), "body": secret_names.put_in(body, job.secrets)}
    return {**params, **put_in}, parts


def _client(backend: CheckedBackend, timeout: float) -> httpx.Client:
    transport = httpx.HTTPTransport(verify=_ssl_context(), trust_env=False)
    # httpx offers no public way to choose the network backend; the pool below it does.
    transport._pool = httpcore.ConnectionPool(ssl_context=_ssl_context(), network_backend=backend)
    limits = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
    return httpx.Client(transport=transport, trust_env=False, timeout=limits)


@cache
def _ssl_context() -> ssl.SSLContext:
    """Reading the certificate authorities takes some 20 ms; once is enough."""
    return httpx.create_ssl_context(trust_env=False)


def _send(client: httpx.Client, request: httpx.Request, confidential: _Parts) -> httpx.Response:
    """Send, following redirects; httpx itself would first read the body of each one, however long it is."""
    home = _origin(request.url)
    for _hop in range(MOST_REDIRECTS + 1):
        response = client.send(request, stream=True)
        if response.next_request is None:
            return response
        response.close()
        request = response.next_request
        if _origin(request.url) != home:
            for name in confidential.headers:
                request.headers.pop(name, None)
            if confidential.body and request.headers.get("content-length", "0") != "0":
                raise _Confidential(f"A redirect to {request.url.host} would pass on a body that holds secrets")
    raise httpx.TooManyRedirects("too many redirects", request=request)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _judge(response: httpx.Response, params: dict[str, Any], sink: OutputSink) -> Result:
    sink.note(f"HTTP {response.status_code} {response.reason_phrase}".strip())
    body = bytearray()
    for chunk in response.iter_bytes():
        sink.feed(STDOUT, chunk)
        body += chunk[: MAX_OUTPUT_JSON + 1 - len(body)]
    status = response.status_code
    output: dict[str, Any] = {"status": status}
    if "json" in response.headers.get("content-type", ""):
        try:
            output["body"] = _parsed(body)
        except ValueError as error:
            sink.note(f"The body says that it is JSON, but cannot be kept as output: {error}.")
    expected = params.get("expected_statuses")
    if status in expected if expected else 200 <= status < 300:
        return Result(RunState.SUCCEEDED, exit_code=0, output=output)
    return Result(
        RunState.FAILED,
        Reason.UNEXPECTED_STATUS,
        f"The server answered {status}; expected {', '.join(map(str, expected)) if expected else '200-299'}.",
        output=output,
        asked_delay=_retry_after(response.headers.get("retry-after")),
        retryable=status in _RETRYABLE,
        status=status,
    )


def _parsed(body: bytearray) -> Any:
    if len(body) > MAX_OUTPUT_JSON:
        raise ValueError(f"it is larger than {MAX_OUTPUT_JSON} bytes")
    return parse_json(bytes(body))


def _failure(error: Exception, job: Job, control: Control, timed_out: bool) -> Result:
    if control.why is not None:
        return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED, "The connection was closed on request.")
    if timed_out or isinstance(error, httpx.TimeoutException):
        detail = f"No complete answer within {job.timeout_seconds:g} s."
        return Result(RunState.TIMED_OUT, Reason.TIMEOUT, detail)
    if isinstance(error, httpx.TooManyRedirects):
        detail = f"More than {MOST_REDIRECTS} redirects."
        return Result(RunState.FAILED, Reason.CONNECTION, detail, retryable=False)
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError | ValueError):
        return Result(RunState.FAILED, Reason.INVALID_PARAMETERS, f"{error}", retryable=False)
    return Result(RunState.FAILED, Reason.CONNECTION, f"{type(error).__name__}: {error}")


def _retry_after(value: str | None) -> float | None:
    """Seconds asked for by a Retry-After header, in either of its two forms (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,12}", value.strip()):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
