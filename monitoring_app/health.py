"""Is this process alive, and can the installation do its work: `/health`, `/health/live`, `/health/ready`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import timedelta

from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from access_app import runtime
from access_app.api.views import ApiView
from dispatcher_app.models import Dispatcher
from tasks_app.rowset import database_now
from workers_app import brokers
from workers_app.models import HOLDING_A_LEASE, Worker
from workers_app.runtime_settings import BROKER_URL

OK = "ok"
BROKER_SECONDS = 2.0
DISPATCHER_SILENCE = timedelta(seconds=30)


@require_safe
def live(request: HttpRequest) -> JsonResponse:  # noqa: ARG001  (Django's signature)
    """The one address that needs no login; it says that this process answers, and nothing else."""
    return JsonResponse({"status": OK}, headers={"Cache-Control": "no-store"})


class ReadyView(ApiView):
    asks_for_role = False

    @extend_schema(
        operation_id="health_ready",
        responses={
            (status, "application/json"): inline_serializer(
                name,
                {
                    "status": serializers.CharField(help_text="`ok` or `failed`."),
                    "parts": serializers.DictField(
                        child=serializers.CharField(), help_text="`ok`, or what is wrong, for each part."
                    ),
                },
            )
            for status, name in ((200, "Ready"), (503, "NotReady"))
        },
    )
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """Whether broker, dispatcher and workers do their work; 503 names each part that does not.

        Without the database nobody can be let in: then it is 503 with the code `database_unavailable`, as everywhere.
        """
        parts = {name: probe() for name, probe in PROBES.items()}
        failed = any(text != OK for text in parts.values())
        return Response({"status": "failed" if failed else OK, "parts": parts}, status=503 if failed else 200)


def database() -> str:
    """`ok`; raises OperationalError when the database does not answer, as do those below."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return OK


def dispatcher() -> str:
    """Whether a dispatcher has reported within 30 seconds."""
    since = database_now() - DISPATCHER_SILENCE
    if Dispatcher.objects.filter(beat_at__gte=since).exists():
        return OK
    return _("no dispatcher has reported for 30 seconds")


def workers() -> str:
    """Whether a worker holds a lease."""
    if Worker.objects.filter(state__in=HOLDING_A_LEASE, lease_until__gt=database_now()).exists():
        return OK
    return _("no worker is online")


def broker() -> str:
    """Whether the broker accepts a connection within two seconds."""
    runtime.refresh()
    return _broker_probe.ask(BROKER_URL.value)


class BrokerProbe:
    """Asks on a thread of its own, one at a time: a broker that hangs costs a request two seconds, and no more threads
    than one however often it is asked."""

    def __init__(self, connect: Callable[[str], None], seconds: float = BROKER_SECONDS) -> None:
        self._connect, self._seconds = connect, seconds
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None

    def ask(self, url: str) -> str:
        if url.startswith("memory:"):
            return OK
        with self._lock:
            asked = self._asked
            if asked is None or asked.done():
                asked = self._asked = Future()
                threading.Thread(target=self._run, args=(url, asked), name="broker-probe", daemon=True).start()
        try:
            asked.result(self._seconds)
        except FutureTimeout:
            return _("does not answer within two seconds")
        except Exception:  # noqa: BLE001  (each transport fails in its own way; all of them mean the same here)
            return _("refuses the connection")
        return OK

    def _run(self, url: str, asked: Future[None]) -> None:
        try:
            self._connect(url)
        except Exception as error:  # noqa: BLE001  (handed to whoever waits)
            asked.set_exception(error)
        else:
            asked.set_result(None)


def _connect(url: str) -> None:
    link = brokers.connection(url, seconds=BROKER_SECONDS, connect_seconds=BROKER_SECONDS)
    with link as broker_connection:
        # Not connect(): that one tries again and sleeps in between.
        transport = broker_connection.transport
        transport.close_connection(transport.establish_connection())


_broker_probe = BrokerProbe(_connect)
PROBES: dict[str, Callable[[], str]] = {
    "database": database,
    "broker": broker,
    "dispatcher": dispatcher,
    "workers": workers,
}
