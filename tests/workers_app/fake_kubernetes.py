"""The API of a cluster for tests: Jobs, their pods and logs, as far as a run asks for them."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Cluster:
    """Pods begin at once and end when the test says so; whoever follows a log gets its lines as they are written."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, list[tuple[str, str]]] = {}
        self.asked: list[tuple[str, str, dict[str, Any] | None, str]] = []
        self.first_state: dict[str, Any] = {"running": {}}
        self.refusal: tuple[int, str] | None = None
        self.away = False
        self.break_after: int | None = None
        self.over = threading.Event()
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else None
                cluster.asked.append((self.command, self.path, body, self.headers.get("Authorization", "")))
                if cluster.away:
                    self.say(503, {"message": "away"})
                    return
                try:
                    cluster.answer(self, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = do_PATCH = answer  # noqa: N815  (names of the library)

            def say(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, handler: Any, body: dict[str, Any] | None) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name = parts.path.rsplit("/", 1)[-1]
        if "/secrets" in parts.path:
            self._keep(handler, name, body or {})
        elif handler.command == "POST":
            self._create(handler, body or {})
        elif parts.path.endswith("/log"):
            self._follow(handler, parts.path.split("/")[-2], query)
        elif handler.command == "DELETE":
            pod = name.removesuffix("-pod")
            known = name in self.jobs if "/jobs/" in parts.path else pod in self.states
            self.jobs.pop(name, None)
            # A pod that runs goes on until its own end; here that is when it is asked for itself.
            if pod in self.states and ("/pods/" in parts.path or "running" not in self.states[pod]):
                self.states.pop(pod)
            handler.say(200 if known else 404, {"message": name})
        elif parts.path.endswith("/jobs"):
            key, _equals, value = query["labelSelector"].partition("=")
            items = [job for job in self.jobs.values() if job["metadata"]["labels"].get(key) == value]
            handler.say(200, {"items": items})
        else:
            job = query["labelSelector"].removeprefix("job-name=")
            handler.say(200, {"items": [self._pod(job)] if job in self.states else []})

    def write(self, job: str, at: str, text: str) -> None:
        self.logs.setdefault(job, []).append((at, text))

    def end(self, job: str, code: int, reason: str = "Completed") -> None:
        self.states[job] = {"terminated": {"exitCode": code, "reason": reason}}

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def _create(self, handler: Any, body: dict[str, Any]) -> None:
        if self.refusal is not None:
            status, message = self.refusal
            handler.say(status, {"message": message})
            return
        name = body["metadata"]["name"]
        self.jobs[name], self.states[name] = body, self.first_state
        handler.say(201, {**body, "metadata": {**body["metadata"], "uid": f"uid-of-{name}"}})

    def _keep(self, handler: Any, name: str, body: dict[str, Any]) -> None:
        if handler.command == "POST":
            self.secrets[body["metadata"]["name"]] = body
            handler.say(201, body)
        elif handler.command == "PATCH":
            self.secrets[name]["metadata"].update(body["metadata"])
            handler.say(200, self.secrets[name])
        else:
            handler.say(200 if self.secrets.pop(name, None) else 404, {"message": name})

    def _pod(self, job: str) -> dict[str, Any]:
        statuses = [{"name": "run", "state": self.states[job]}]
        return {"metadata": {"name": f"{job}-pod"}, "status": {"phase": "Running", "containerStatuses": statuses}}

    def _follow(self, handler: Any, pod: str, query: dict[str, str]) -> None:
        job, since = pod.removesuffix("-pod"), query.get("sinceTime", "")
        handler.send_response(200)
        handler.end_headers()
        sent = 0
        while not self.over.is_set():
            over = "running" not in self.states.get(job, {})
            lines = [line for line in self.logs.get(job, []) if f"{line[0][:19]}Z" >= since]
            for at, text in lines[sent:]:
                handler.wfile.write(f"{at} {text}\n".encode())
                sent += 1
                if self.break_after is not None and sent >= self.break_after:
                    self.break_after = None
                    # Without an end: the client must see that it broke off.
                    handler.connection.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                    handler.connection.close()
                    return
            if over:
                return
            time.sleep(0.02)
