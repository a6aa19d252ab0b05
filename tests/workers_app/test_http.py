"""The http executor against a server of the test."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import pytest

from tasks_app.states import Reason, RunState
from tests.workers_app.jobs import make_job, no_new_files, run
from workers_app.executors import http
from workers_app.jobs import Control

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers each path as the test said; keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, Answer] = {}
        self.reached = threading.Event()
        self.over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.asked.append((self.command, self.path, dict(self.headers.items()), body))
                server.reached.set()
                server.answers[self.path](self)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = answer  # noqa: N815  (names of the library)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def says(self, status: int, body: bytes = b"", path: str = "/", **headers: str) -> str:
        """Have the path answer so; its address."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)

        self.answers[path] = answer
        return self.url(path)

    def close(self) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(settings) -> Iterator[Server]:
    settings.SCHEDULER_HTTP_ALLOW = [ip_network("127.0.0.0/8")]
    made = Server()
    yield made
    made.close()


def call(url: str, control: Control | None = None, timeout_seconds: float = 10.0, **params: Any):
    return run(http.execute, make_job(url, executor="http", params=params, timeout_seconds=timeout_seconds), control)


def test_without_the_allow_list_a_private_server_is_refused_for_good(server, settings):
    url = server.says(200)
    assert call(url)[0].state is RunState.SUCCEEDED
    settings.SCHEDULER_HTTP_ALLOW = []
    result, _lines = call(url)
    assert (result.state, result.reason, result.retryable) == (RunState.FAILED, Reason.ADDRESS_REFUSED, False)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_private_address_is_refused(server, status):
    server.says(200, path="/there")
    assert call(server.says(status, Location=server.url("/there")))[0].state is RunState.SUCCEEDED
    result, _lines = call(server.says(status, Location="http://169.254.169.254/latest/meta-data/"))
    assert result.reason == Reason.ADDRESS_REFUSED


def test_endless_redirects_end(server):
    result, _lines = call(server.says(302, Location="/"))
    assert (result.state, result.retryable) == (RunState.FAILED, False)
    assert len(server.asked) == http.MOST_REDIRECTS + 1


def test_the_body_of_a_redirect_is_not_read(server):
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", "/there")
        request.end_headers()
        while not server.over.is_set():
            request.wfile.write(b"x" * 65536)

    server.answers["/"] = endless
    server.says(200, b"arrived", path="/there")
    result, lines = call(server.url())
    assert result.state is RunState.SUCCEEDED and lines[-1] == "arrived"


@pytest.mark.parametrize(
    ("status", "expected", "state", "retryable"),
    [
        (200, None, RunState.SUCCEEDED, True),
        (204, None, RunState.SUCCEEDED, True),
        (404, None, RunState.FAILED, False),
        (400, None, RunState.FAILED, False),
        (429, None, RunState.FAILED, True),
        (500, None, RunState.FAILED, True),
        (503, None, RunState.FAILED, True),
        (404, [404], RunState.SUCCEEDED, True),
        (200, [404], RunState.FAILED, False),
    ],
)
def test_the_status_decides_and_only_passing_troubles_are_tried_again(server, status, expected, state, retryable):
    params = {"expected_statuses": expected} if expected else {}
    result, lines = call(server.says(status), **params)
    assert (result.state, result.retryable, result.output["status"]) == (state, retryable, status)
    assert result.status == (status if state is RunState.FAILED else None)
    assert lines[0].startswith(f"HTTP {status}")


def asked_delay(server: Server, value: str) -> float | None:
    delay: float | None = call(server.says(503, Retry_After=value))[0].asked_delay
    return delay


def test_retry_after_is_understood_in_both_forms(server):
    assert asked_delay(server, "120") == 120
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    assert asked_delay(server, at) == pytest.approx(300, abs=10)
    assert asked_delay(server, "Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "\xb2", "9" * 400, "Wed, 99 Oct 2015 07:28:00 GMT", ""])
def test_a_retry_after_that_cannot_be_read_changes_nothing_else(server, value):
    result, _lines = call(server.says(503, Retry_After=value))
    assert (result.reason, result.retryable, result.asked_delay) == (Reason.UNEXPECTED_STATUS, True, None)


@pytest.mark.parametrize(
    ("body", "sent", "kind"),
    [
        (None, b"", None),
        ("plain text ü", "plain text ü".encode(), None),
        ({"a": [1, None]}, b'{"a": [1, null]}', "application/json"),
        ([], b"[]", "application/json"),
        (0, b"0", "application/json"),
    ],
)
def test_a_body_is_sent_as_text_or_json(server, body, sent, kind):
    call(server.says(200), method="POST", body=body, headers={"X-Mine": "yes"})
    ((method, _path, headers, received),) = server.asked
    assert (method, received, headers.get("Content-Type")) == ("POST", sent, kind)
    assert headers["X-Mine"] == "yes" and headers["X-Scheduler-Run"] == "1"


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (b'{"rows": 3}', {"status": 200, "body": {"rows": 3}}),
        (b"[1e999]", {"status": 200}),
        (b'{"a": NaN}', {"status": 200}),
        (b"{broken", {"status": 200}),
        (b"[" * 20_000 + b"]" * 20_000, {"status": 200}),
        (b'"' + b"x" * 70_000 + b'"', {"status": 200}),
        (b"\xff", {"status": 200}),
    ],
)
def test_a_json_answer_is_the_output_unless_it_cannot_be_kept(server, text, output):
    result, lines = call(server.says(200, text, Content_Type="application/json"))
    assert (result.state, result.output) == (RunState.SUCCEEDED, output)
    assert any("cannot be kept" in line for line in lines) == ("body" not in output)


def test_an_answer_of_another_kind_is_output_lines_only(server):
    result, lines = call(server.says(200, b'{"rows": 3}\n', Content_Type="text/plain"))
    assert result.output == {"status": 200} and lines == ["HTTP 200 OK", '{"rows": 3}']


def dribble(server: Server) -> str:
    """One byte now and then: each read comes in time, the answer as a whole never does."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not server.over.wait(0.05):
            request.wfile.write(b".")

    server.answers["/"] = answer
    return server.url()


def silence(server: Server) -> str:
    def answer(_request: BaseHTTPRequestHandler) -> None:
        server.over.wait()

    server.answers["/"] = answer
    return server.url()


@pytest.mark.parametrize("kind", [dribble, silence])
def test_the_time_limit_covers_the_whole_exchange(server, kind):
    started = time.monotonic()
    result, _lines = call(kind(server), timeout_seconds=0.5)
    assert (result.state, result.reason) == (RunState.TIMED_OUT, Reason.TIMEOUT)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", [dribble, silence])
def test_a_cancel_ends_the_exchange_in_the_middle(server, kind):
    control = Control()

    def cancel() -> None:
        assert server.reached.wait(10)
        control.end(Control.CANCEL)

    thread = threading.Thread(target=cancel)
    thread.start()
    started = time.monotonic()
    result, _lines = call(kind(server), control)
    thread.join()
    assert (result.state, result.reason) == (RunState.CANCELLED, Reason.CANCEL_REQUESTED)
    assert time.monotonic() - started < 5


def test_a_run_cancelled_before_it_connects_sends_nothing(server):
    control = Control()
    control.end(Control.CANCEL)
    result, _lines = call(server.says(200), control)
    assert result.state is RunState.CANCELLED and server.asked == []


def test_an_answer_without_end_is_capped(server, settings):
    settings.SCHEDULER_OUTPUT_BYTES = 10_000

    def flood(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        while not server.over.is_set():
            request.wfile.write(b"line\n" * 10_000)

    server.answers["/"] = flood
    result, lines = call(server.url(), timeout_seconds=1)
    assert result.state is RunState.TIMED_OUT and sum(map(len, lines)) < 11_000


@pytest.mark.parametrize(
    ("url", "retryable"),
    [
        ("http://127.0.0.1:9/", True),
        ("http://" + "a" * 70 + ".example/", False),
        ("http://no.such.name.invalid/", True),
    ],
)
def test_a_server_that_cannot_be_reached_is_a_failed_run_with_the_reason(server, url, retryable):
    result, _lines = call(url)
    assert result.state is RunState.FAILED and result.retryable is retryable and result.detail


def test_requests_leave_no_file_open(server):
    call(server.says(200, b"{}"))
    with no_new_files():
        for _ in range(3):
            call(server.says(200, json.dumps({"a": 1}).encode()))
            call(server.says(302, Location="http://10.0.0.1/"))
