"""manage.py run_all: web, dispatcher and worker in one foreground command, with nothing to install first."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from access_app.models import ApiKey, AuditEntry
from access_app.roles import Role
from console_app.supervisor import Child, Supervisor, port_is_free
from dispatcher_app.models import Dispatcher
from scheduler_site.env import env
from tasks_app.models import Task
from workers_app.models import Worker, WorkerState

START_SECONDS = 60.0


class Command(BaseCommand):
    help = "Starts everything on this machine: web, dispatcher and worker. Ctrl-C or SIGTERM ends all of it."

    def handle(self, *args: Any, **options: Any) -> None:
        port = _port()
        if not port_is_free(port):
            raise CommandError(f"Port {port} is taken. Choose another one: PORT=8080 make run")
        Path(settings.SCHEDULER_SCRIPTS_DIR).mkdir(parents=True, exist_ok=True)
        call_command("migrate", interactive=False, verbosity=0)
        password = _ensure_admin()
        key = _ensure_key()
        supervisor = Supervisor(_children(port))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
        began = timezone.now()
        supervisor.start()
        serves = supervisor.wait_until(lambda: _answers(port) and _works(began), START_SECONDS)
        # A generated password is shown now or never.
        if serves or password:
            self._greet(port, password, key)
        code = supervisor.run()
        if code:
            raise CommandError("A part could not be kept alive; see the lines above.")

    def _greet(self, port: int, password: str | None, key: str) -> None:
        base = f"http://127.0.0.1:{port}"
        login = f"admin / {password}   (shown this once)" if password else "admin, with the password you chose"
        self.stdout.write(
            f"\n  Console   {base}/\n  Sign in   {login}\n  API       {base}/api/docs\n\n"
            f"  Try it:\n\n  {_curl(base, key)}\n\n  Output    {base}/runs/\n"
            f"  Scripts   {settings.SCHEDULER_SCRIPTS_DIR}\n"
            "  Stop      Ctrl-C\n"
        )
        self.stdout.flush()


def _children(port: int) -> list[Child]:
    manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
    web = [
        *(sys.executable, "-m", "gunicorn", "scheduler_site.wsgi", "--config", "python:scheduler_site.gunicorn"),
        *("--bind", f"127.0.0.1:{port}"),
    ]
    children = [Child("web", web)]
    if settings.SCHEDULER_BROKER_URL.startswith("memory:"):
        children.append(Child("engine", [*manage, "run_worker", "--with-dispatcher"]))
    else:
        children += [Child("dispatcher", [*manage, "run_dispatcher"]), Child("worker", [*manage, "run_worker"])]
    return children


def _ensure_admin() -> str | None:
    """Create the user `admin` at the first start. Returns its password when it was generated, to be shown once."""
    users = get_user_model().objects
    if users.filter(username="admin").exists():
        return None
    given = env.str("SCHEDULER_ADMIN_PASSWORD", "")
    password = given or secrets.token_urlsafe(12)
    users.create_superuser("admin", password=password)
    return None if given else password


def _ensure_key() -> str:
    """The API key of the printed curl line, made at the first start and kept readable for this user alone."""
    path = Path(settings.SCHEDULER_DATA_DIR) / "api_key"
    admin = get_user_model().objects.get(username="admin")
    if path.exists() and ApiKey.objects.filter(user=admin, name="run_all").exists():
        return str(path)
    ApiKey.objects.filter(user=admin, name="run_all").delete()
    _key, token = ApiKey.objects.create(user=admin, name="run_all", role=Role.ADMIN, expiry=None)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(token)
    return str(path)


def _curl(base: str, key: str) -> str:
    """One command line that gives a run, on whatever the database holds."""
    options = f"""-sS -H "X-API-Key: $(cat {key})" -H 'Content-Type: application/json'"""
    task = Task.objects.filter(paused=False).order_by("pk").first()
    if task is not None:
        return f"curl {options} -d '{{}}' {base}/api/tasks/{task.pk}/trigger"
    body = {"name": "hello", "executor": "shell", "command": "echo Hello from run $SCHEDULER_RUN_ID"}
    if not Task.objects.exists() and not AuditEntry.objects.filter(object_type="task").exists():
        create = f"{options} -d '{json.dumps(body)}' {base}/api/tasks"
        return f"curl {create} --next {options} -d '{{}}' {base}/api/tasks/1/trigger"
    # Tasks have come and gone: the number of the next one, the first field of the answer, is not for us to guess.
    body["name"] = f"hello {secrets.token_hex(3)}"
    create = f"curl {options} -d '{json.dumps(body)}' {base}/api/tasks | cut -d: -f2 | cut -d, -f1"
    return f"curl {options} -d '{{}}' {base}/api/tasks/$({create})/trigger"


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _works(began: datetime) -> bool:
    """Whether a dispatcher and a worker of this start are there; until then the printed command would seem to hang."""
    workers = Worker.objects.filter(state=WorkerState.ONLINE, started_at__gte=began)
    return workers.exists() and Dispatcher.objects.filter(started_at__gte=began).exists()


def _port() -> int:
    text = env.str("PORT", "8000")
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise CommandError(f"PORT is {text!r}; it must be a number from 1 to 65535.")
    return int(text)
