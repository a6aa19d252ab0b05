"""A canary among the secrets: runs get it and tell its digest, and it is nowhere, however one looks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import psutil
import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from kombu import Connection

from scripts.probes import RABBITMQ
from tests.services import ADMIN_PASSWORD, ProcessStack

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
# Signs that are written differently in addresses, JSON, HTML and shells.
CANARY = 'Kanari/c6ceb535a70b01bd894b1189+"x\'y" & e1cd422d'
DIGEST = hashlib.sha256(CANARY.encode()).hexdigest()
SHELL = r"""
printf %s "$BIRD" | sha256sum
echo "plain: $BIRD"
printf %s "$BIRD" | base64 -w 0; echo
echo "Basic $(printf 'user:%s' "$BIRD" | base64 -w 0)"
printf 'in two: '; printf %s "$BIRD" | head -c 20; sleep 0.3; printf %s "$BIRD" | tail -c +21; echo
echo "error: $BIRD" >&2
set -x; test "$BIRD" = "" ; set +x
touch "$PARAM_alive"; while [ -e "$PARAM_alive" ]; do sleep 0.1; done
"""
SCRIPT = """
import hashlib, json, logging, os, sys, time, urllib.parse
bird = os.environ["BIRD"]
print(hashlib.sha256(bird.encode()).hexdigest())
print("https://shop.example/?token=" + urllib.parse.quote_plus(bird))
sys.stdout.write("in two: " + bird[:9]); sys.stdout.flush(); time.sleep(0.3)
sys.stdout.write(bird[9:] + "\\n")
logging.warning("logged %s", bird)
if "fail" in sys.argv:
    raise RuntimeError("refused: " + bird)
print(json.dumps({"token": bird, bird: [bird], "digest": hashlib.sha256(bird.encode()).hexdigest()}))
"""


def forms(value: str) -> dict[str, str]:
    """How it might stand somewhere, each by its name; by halves, too, so that a cut in the middle hides nothing."""
    raw = value.encode()
    # Of something longer only the middle is surely the same.
    shifted = [base64.b64encode(b"x" * before + raw).decode()[8:-8] for before in range(3)]
    texts = {
        "plain": value, "quoted": quote(value), "in a query": quote_plus(value), "all quoted": quote(value, safe=""),
        "JSON": json.dumps(value)[1:-1], "JSON in JSON": json.dumps(json.dumps(value)[1:-1])[1:-1], "hex": raw.hex(),
        "begin": value[7:25], "end": value[-8:], "hex of the end": raw[-8:].hex(),
    }  # fmt: skip
    return texts | {f"base64 from {before}": text for before, text in enumerate(shifted)}


def found_in(text: str) -> list[str]:
    return [name for name, form in forms(CANARY).items() if form in text]


class Shop(ThreadingHTTPServer):
    """Repeats what it is sent, headers and all, as a helpful service does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Repeating)
        self.heard: list[tuple[dict[str, str], bytes]] = []
        Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Repeating(BaseHTTPRequestHandler):
    server: Shop

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((dict(self.headers), body))
        said = {"headers": dict(self.headers), "body": body.decode(), "base64": base64.b64encode(body).decode()}
        data = json.dumps(said).encode()
        self.send_response(500 if self.path == "/fail" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.shutdown()
    made.server_close()


def make_task(api: httpx.Client, name: str, executor: str, command: str, **fields: Any) -> int:
    body = {"name": name, "executor": executor, "command": command, "secrets": {"BIRD": "CANARY"}, **fields}
    answer = api.post("/api/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def trigger(api: httpx.Client, task: int, **params: Any) -> int:
    answer = api.post(f"/api/tasks/{task}/trigger", json={"params": params})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def test_a_secret_is_used_by_runs_of_every_kind_and_is_nowhere(stack: ProcessStack, shop: Shop, tmp_path: Path):
    (tmp_path / "bird.py").write_text(SCRIPT)
    stack.environ |= {
        "SCHEDULER_SCRIPTS_DIR": str(tmp_path), "SCHEDULER_HTTP_ALLOW": "127.0.0.0/8", "SCHEDULER_LOG_LEVEL": "DEBUG",
        "SCHEDULER_ENCRYPTION_KEYS": secrets.token_urlsafe(32), "SCHEDULER_CALLABLES": "tests.workers_app.callables",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }  # fmt: skip
    stack.dispatcher()
    api = stack.web()
    made = api.post("/api/secrets", json={"name": "CANARY", "value": CANARY})
    assert made.status_code == 201, made.text
    alive = tmp_path / "alive"
    sent = {"headers": {"X-Key": "${secret:BIRD}"}, "body": {"token": "${secret:BIRD}"}}
    http_params = {"method": "POST", **sent}
    tasks = {
        "shell": make_task(api, "shell", "shell", SHELL),
        "python": make_task(api, "python", "python", "bird.py"),
        "failing": make_task(api, "failing", "python", "bird.py fail", retry_count=1, retry_delay_seconds=0),
        "http": make_task(api, "http", "http", shop.url, params=http_params),
        "refused": make_task(api, "refused", "http", f"{shop.url}fail", params=http_params),
        "callable": make_task(
            api, "callable", "callable", "tests.workers_app.callables.variable", params={"name": "BIRD"}
        ),
    }
    below = make_task(
        api, "below", "shell", 'echo "$PARAM_all"', secrets={}, params={"all": "x {{ upstream.python.token }}"}
    )
    api.post("/api/dependencies", json={"upstream": tasks["python"], "downstream": below})
    runs = {
        name: trigger(api, task, **({"alive": str(alive)} if name == "shell" else {})) for name, task in tasks.items()
    }
    messages = waiting_messages(stack, len(runs))
    stack.worker(concurrency=8)
    stack.wait_for("the shell run to live", alive.exists, 60)
    command_lines = " ".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    alive.unlink()

    def over() -> bool:
        return api.get("/api/system/stats").json()["runs"]["running"] == 0 and len(ended(api)) >= len(runs) + 1

    stack.wait_for("the runs to end", over, 60)
    states = {name: api.get(f"/api/runs/{id}").json()["state"] for name, id in runs.items()}
    assert states == {
        "shell": "succeeded", "python": "succeeded", "failing": "failed", "http": "succeeded", "refused": "failed",
        "callable": "succeeded",
    }  # fmt: skip

    # They had it: what must move has moved.
    assert DIGEST in api.get(f"/api/runs/{runs['shell']}/log.txt").text
    assert api.get(f"/api/runs/{runs['python']}").json()["output"] == {"token": "***", "***": ["***"], "digest": DIGEST}
    assert api.get(f"/api/runs/{runs['callable']}").json()["output"]["sha256"] == DIGEST
    assert all(json.loads(body) == {"token": CANARY} for _headers, body in shop.heard) and len(shop.heard) == 2
    (handed_on,) = api.get(f"/api/tasks/{below}/runs").json()["results"]
    assert "x ***" in api.get(f"/api/runs/{handed_on['id']}/log.txt").text

    # And it is nowhere.
    places = {"messages": messages, "command lines": command_lines, "database": dump(stack)}
    places |= {f"log of {child.name}": child.log.read_text(errors="replace") for child in stack.children}
    places |= answers(stack, api, tasks.values(), ended(api), int(made.json()["id"]))
    assert DIGEST in places["database"] and "sha256sum" in command_lines and str(runs["shell"]) in messages
    assert len(places) > 120
    assert {place: found for place, text in places.items() if (found := found_in(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        f"token {CANARY}", f"?token={quote_plus(CANARY)}", json.dumps({"a": json.dumps({"token": CANARY})}),
        base64.b64encode(f"user:{CANARY}".encode()).decode(), f"{CANARY[:25]} ", f" {CANARY[-8:]}",
        CANARY.encode().hex(),
    ],
)  # fmt: skip
def test_the_canary_would_be_seen(text):
    assert found_in(text) != [] and found_in(f"{DIGEST} ***") == []


def ended(api: httpx.Client) -> list[int]:
    rows = api.get("/api/runs?limit=100").json()["results"]
    return [row["id"] for row in rows if row["finished_at"]]


def waiting_messages(stack: ProcessStack, runs: int) -> str:
    """The messages that announce the runs, while nobody takes them; they go back."""
    stack.wait_for("the runs to be announced", lambda: queued(stack) == runs, 30)
    texts = []
    with Connection(RABBITMQ.url()) as connection:
        channel = connection.channel()
        while (message := channel.basic_get(f"{stack.prefix}.default")) is not None:
            texts.append(f"{message.body!r} {message.properties!r} {message.headers!r}")
        # Closing gives back what was not acknowledged.
        channel.close()
    return "\n".join(texts)


def queued(stack: ProcessStack) -> int:
    return int(stack.value("select count(*) from tasks_app_run where state = 'queued'"))


def dump(stack: ProcessStack) -> str:
    """Every column of every row of every table, as text; bytes in hexadecimal."""
    tables = stack.rows("select quote_ident(tablename) from pg_tables where schemaname = 'public' order by tablename")
    assert len(tables) > 40
    return "\n".join(str(row) for (table,) in tables for (row,) in stack.rows(f"select t::text from {table} t"))


def answers(
    stack: ProcessStack, api: httpx.Client, tasks: Iterable[int], runs: Iterable[int], secret: int
) -> dict[str, str]:
    """What every address that can be read answers, over the API, in the console and in the admin."""
    keys: dict[str, list[Any]] = {"run": [*runs], "task": [*tasks], "secret": [secret], "worker": [], "other": [1]}
    keys["worker"] = [str(key) for (key,) in stack.rows("select id from workers_app_worker")]
    texts: dict[str, str] = {}
    with httpx.Client(base_url=api.base_url, trust_env=False, timeout=30, follow_redirects=True) as console:
        _sign_in(console)
        for route in sorted(set(_routes(get_resolver().url_patterns))):
            for address in _filled(route, keys):
                client = api if route.startswith(("api/", "health", "metrics")) else console
                answer = client.get(f"/{address}")
                assert answer.status_code < 500 or "ready" in address, (address, answer.text[:500])
                if answer.status_code == 200:
                    texts[address] = answer.text
        for kind, ids in (
            ("tasks_app/run", keys["run"]),
            ("tasks_app/task", keys["task"]),
            ("access_app/secret", [secret]),
        ):
            for id in ids:
                texts[f"admin {kind} {id}"] = console.get(f"/admin/{kind}/{id}/change/").raise_for_status().text
    return texts


def _sign_in(console: httpx.Client) -> None:
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', console.get("/sign-in/").text)
    assert token is not None
    form = {"username": "admin", "password": ADMIN_PASSWORD, "csrfmiddlewaretoken": token[1]}
    answer = console.post("/sign-in/", data=form)
    assert answer.status_code == 200 and "/sign-out/" in answer.text


def _routes(patterns: Any, prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and not re.search(r"[\^$()\\]", route):
            yield route


def _filled(route: str, keys: dict[str, list[Any]]) -> Iterator[str]:
    """The addresses of a route: one for each object that its key may mean."""
    if "sign-out" in route or "logout" in route:
        return
    place = re.search(r"<(?:\w+:)?(\w+)>", route)
    if place is None:
        yield f"{route}?task=1" if route.startswith("api/fires") else route
        return
    kinds = {"runs/": "run", "tasks/": "task", "secrets/": "secret", "workers/<uuid": "worker"}
    kind = next((kind for begin, kind in kinds.items() if begin in route.removeprefix("api/")), "other")
    for key in keys[kind]:
        yield from _filled(route.replace(place[0], str(key), 1), keys)
