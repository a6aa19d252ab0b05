"""Which brokers there are, and how each is connected to: its transport, its time limits, its TLS.

A broker is a URL; nothing else in the code knows which one it is.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.utils.translation import gettext as _
from kombu import Connection, Queue
from kombu.exceptions import KombuError
from kombu.transport import TRANSPORT_ALIASES

_LISTS, _STREAMS = "workers_app.redis_lists:Transport", "workers_app.redis_streams:Transport"
# By name, so that the redis library is loaded only where it is used.
TRANSPORT_ALIASES |= {"redis": _LISTS, "rediss": _LISTS, "redis-stream": _STREAMS, "rediss-stream": _STREAMS}

MEMORY = "memory"
RABBITMQ = ("amqp", "amqps", "pyamqp")
REDIS = ("redis", "rediss", "redis-stream", "rediss-stream")
SCHEMES = (MEMORY, *RABBITMQ, *REDIS)
SECURE = ("amqps", "rediss", "rediss-stream")
CONNECT_SECONDS = 5.0
HIDDEN = "********"
# What a half-open link to Redis is found by, in seconds and milliseconds; RabbitMQ has heartbeats.
_KEEPALIVE = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
# Not every system has all of them.
KEEPALIVE = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}


def connection(
    url: str, *, seconds: float, heartbeat: float = 0, connect_seconds: float = CONNECT_SECONDS
) -> Connection:
    """A connection to the broker, not established yet; what takes longer than `seconds` on the network fails."""
    return Connection(
        url,
        heartbeat=heartbeat,
        connect_timeout=connect_seconds,
        transport_options=_transport_options(url, seconds, connect_seconds),
        ssl=_tls(url),
    )


def limit_waits(link: Connection, seconds: float) -> None:
    """Let whoever waits for an answer of RabbitMQ wait no longer than this, on an established connection that is not
    consumed from. Its client knows no such limit; the one for Redis has it from `seconds` of `connection`."""
    # Asked for its connection, one that has none would make one.
    sock = getattr(getattr(link.connection, "transport", None), "sock", None) if link.connected else None
    if sock is not None:
        sock.settimeout(seconds)


def errors() -> tuple[type[Exception], ...]:
    """What any of the transports in use here may raise when its broker is away, or refuses something."""
    found: dict[type[Exception], None] = {KombuError: None}
    for scheme in ("amqp", "redis-stream"):
        transport = Connection(f"{scheme}://").get_transport_cls()
        found |= dict.fromkeys((*transport.connection_errors, *transport.channel_errors))
    return tuple(found)


def fault_of(url: str) -> str | None:
    """Why this cannot be the URL of a broker, as a sentence; None when it can."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return _("This is not a URL.")
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme != MEMORY)
        return _("The scheme %(scheme)r is unknown; use one of %(known)s.") % {"scheme": parts.scheme, "known": known}
    if port == 0 or not (parts.hostname or parts.scheme == MEMORY):
        return _("The URL names no host.")
    if parts.scheme in REDIS and not (parts.path.strip("/") or "0").isdecimal():
        return _("What follows the host must be the number of a Redis database.")
    if ";" in url:
        # kombu would take it for a list, and each process would choose from it as it likes.
        return _("Give one broker; another is set at run time, when it is needed.")
    if parts.query or parts.fragment:
        # kombu would take transport options from it, such as not to verify a certificate.
        return _("The URL must end with its path; TLS is set by SCHEDULER_BROKER_CA_PATH and its like.")
    return None


def fault_beyond_one_process(url: str) -> str | None:
    """The same for a broker that every process of an installation has to reach."""
    if (fault := fault_of(url)) is not None:
        return fault
    if scheme_of(url) == MEMORY:
        return _("The in-process broker reaches workers of the same process alone.")
    if urlsplit(url).password == HIDDEN:
        return _("Type the password anew; the one that is shown is hidden.")
    return None


def refusal_of(url: str, *, seconds: float = CONNECT_SECONDS) -> str | None:
    """Why the broker at `url` cannot be used now, in its own words; None when it lets us have a queue."""
    queue = Queue(f"{settings.SCHEDULER_QUEUE_PREFIX}.probe-{uuid4().hex}", exclusive=True, auto_delete=True)
    try:
        with connection(url, seconds=seconds, connect_seconds=seconds) as link:
            link.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            limit_waits(link, seconds)
            probe = queue(link.default_channel)
            probe.declare()
            probe.purge()
            probe.delete()
    except errors() as error:
        text = _("The broker cannot be used, so nothing was changed: %(error)s")
        return text % {"error": str(error) or type(error).__name__}
    return None


def scheme_of(url: str) -> str:
    return urlsplit(url).scheme


def masked(url: str) -> str:
    """The URL with its password hidden."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:{HIDDEN}@{host}").geturl()


def _transport_options(url: str, seconds: float, connect_seconds: float) -> dict[str, Any]:
    scheme = scheme_of(url)
    if scheme in REDIS:
        prefix = settings.SCHEDULER_QUEUE_PREFIX
        return {
            "socket_timeout": seconds,
            "socket_connect_timeout": connect_seconds,
            "socket_keepalive": True,
            "socket_keepalive_options": KEEPALIVE,
            # kombu waits for an answer this long beyond the second it asks for, up to twice: then the link is dead.
            "health_check_interval": 5,
            # kombu keeps what is unacknowledged in lists beside the queues; two installations may share a Redis.
            "unacked_key": f"{prefix}.unacked",
            "unacked_index_key": f"{prefix}.unacked_index",
            "unacked_mutex_key": f"{prefix}.unacked_mutex",
        }
    if scheme in RABBITMQ:
        return {"write_timeout": seconds}
    # The in-process broker is looked at from time to time; kombu's own interval of a second is felt by whoever waits.
    return {"polling_interval": 0.05} if scheme == MEMORY else {}


def _tls(url: str) -> dict[str, Any] | None:
    """The other side is always verified: by the given authority, else by those of the machine."""
    scheme = scheme_of(url)
    if scheme not in SECURE:
        return None
    authority = settings.SCHEDULER_BROKER_CA_PATH or None
    certificate, key = settings.SCHEDULER_BROKER_CERTIFICATE_PATH or None, settings.SCHEDULER_BROKER_KEY_PATH or None
    if scheme in RABBITMQ:
        return {
            "cert_reqs": ssl.CERT_REQUIRED,
            "ca_certs": authority,
            "certfile": certificate,
            "keyfile": key,
            "server_hostname": urlsplit(url).hostname,
        }
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": authority,
        "ssl_certfile": certificate,
        "ssl_keyfile": key,
    }
