"""The whole scheduler as `make run` starts it, and a browser that is signed in to its console."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from scripts.private_servers import free_port
from scripts.probes import find_chromium
from tests.services import Child, manage, stack_environment

PASSWORD = "correct horse battery"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Installation:
    """A running scheduler on SQLite and the in-process broker: its address, and `manage` to run a command on it."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environ = stack_environment("unused", directory) | {
            "DATABASE_URL": f"sqlite:///{directory}/scheduler.sqlite3",
            "CELERY_BROKER_URL": "",
            "SCHEDULER_ADMIN_PASSWORD": PASSWORD,
            "PORT": str(port),
        }
        command = [sys.executable, "manage.py", "run_all"]
        self.process = Child("run_all", command, self.environ, directory / "run_all.log")

    def manage(self, *arguments: str) -> str:
        return manage(self.environ, *arguments)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    running = Installation(tmp_path_factory.mktemp("console"))
    try:
        running.process.wait_ready()
        yield running
        running.process.stop()
    finally:
        running.process.end_all()


# Not for the session: while Playwright lives, its event loop forbids Django's database calls on this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture
def sign_in(browser: Browser, installation: Installation) -> Iterator[Callable[..., Page]]:
    """`sign_in(width=…, color_scheme=…)` gives a page signed in as admin; errors in its console fail the test."""
    opened: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(*, width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, base_url=installation.url, **options)
        context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        opened.append(context)
        page = context.new_page()
        page.goto("/sign-in/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("/")
        return page

    yield open_page
    for context in opened:
        context.close()
    # Chromium itself notes each answer 401; that one is what an ended session is told.
    assert [text for text in complaints if "401 (Unauthorized)" not in text] == []


@pytest.fixture
def page(sign_in: Callable[..., Page]) -> Page:
    return sign_in()
