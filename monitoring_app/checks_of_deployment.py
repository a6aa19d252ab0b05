"""What production must not start with: keys that can be guessed, open doors, and passwords in plain text on a wire.

In production these are checks like all others, so that every command refuses to start; elsewhere `check --deploy` tells
them beforehand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register
from django.utils.translation import gettext as _

from workers_app import brokers

SHORTEST_KEY = 50
LEAST_BITS = 150
# What stands in examples, templates and tutorials.
WORDS_OF_EXAMPLES = (
    "django-insecure",
    "changeme",
    "change-me",
    "change_me",
    "example",
    "secret-key",
    "your-",
    "-only-",
)
TLS_MODES = ("require", "verify-ca", "verify-full")


@register("scheduler")
def production(**options: Any) -> list[CheckMessage]:  # noqa: ARG001  (Django's signature)
    """In production nothing starts with one of these errors."""
    return list(faults()) if settings.PRODUCTION else []


@register("scheduler", deploy=True)
def deployment(**options: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Elsewhere `check --deploy` says what production would refuse."""
    return [] if settings.PRODUCTION else list(faults())


def faults() -> Iterator[CheckMessage]:
    """What is wrong for production, with a hint each."""
    yield from _keys()
    if settings.DEBUG:
        yield _error(_("DEBUG is on: error pages show code and settings."), _("Take DEBUG away."), "E032")
    if any(host in ("*", ".") for host in settings.ALLOWED_HOSTS):
        text = _("SCHEDULER_ALLOWED_HOSTS takes any host: links in mails and redirects can be forged.")
        yield _error(text, _("Name the hosts under which people reach the console."), "E033")
    if settings.CORS_ALLOW_ALL_ORIGINS:
        text = _("SCHEDULER_CORS_ORIGINS lets the pages of every site use the API.")
        yield _error(text, _("Name the origins, such as https://dashboard.example."), "E034")
    if any(network.prefixlen == 0 for network in settings.SCHEDULER_TRUSTED_PROXIES):
        text = _("SCHEDULER_TRUSTED_PROXIES trusts everybody: each client may claim any address.")
        yield _error(text, _("Name the addresses of the proxies alone."), "E035")
    yield from _plain_connections()


def _keys() -> Iterator[CheckMessage]:
    hint = _("Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(64))'")
    for name, keys in (
        ("SCHEDULER_SECRET_KEY", [settings.SECRET_KEY]),
        ("SCHEDULER_SECRET_KEY_FALLBACKS", settings.SECRET_KEY_FALLBACKS),
    ):
        if any(len(key) < SHORTEST_KEY for key in keys):
            text = _("%(name)s has fewer than %(n)d characters.") % {"name": name, "n": SHORTEST_KEY}
            yield _error(text, hint, "E030")
        elif any(is_guessable(key) for key in keys):
            yield _error(
                _("%(name)s can be guessed: it is an example, or repeats itself.") % {"name": name}, hint, "E031"
            )


def is_guessable(key: str) -> bool:
    """Whether the key is one of an example, or so regular that its length says nothing."""
    plain = key.lower()
    if any(word in plain for word in WORDS_OF_EXAMPLES):
        return True
    counts = Counter(key)
    bits = -sum(n * math.log2(n / len(key)) for n in counts.values())
    half = key[: len(key) // 2]
    return bits < LEAST_BITS or key.count(half) > 1


def _plain_connections() -> Iterator[CheckMessage]:
    hint = _("Use TLS, or name it in SCHEDULER_PLAINTEXT where the network between is private.")
    for alias, database in settings.DATABASES.items():
        is_plain = "postgresql" in database["ENGINE"] and not _is_here(database.get("HOST") or "")
        if is_plain and "database" not in settings.SCHEDULER_PLAINTEXT:
            mode = (database.get("OPTIONS") or {}).get("sslmode")
            if mode not in TLS_MODES:
                text = _(
                    "The connection to the database (%(alias)s) is not bound to use TLS: add ?sslmode=verify-full."
                )
                yield _error(text % {"alias": alias}, hint, "E036")
    url = settings.SCHEDULER_BROKER_URL
    scheme = brokers.scheme_of(url)
    is_plain = scheme != brokers.MEMORY and scheme not in _TLS_SCHEMES and not _is_here(urlsplit(url).hostname or "")
    if is_plain and "broker" not in settings.SCHEDULER_PLAINTEXT:
        text = _("The connection to the broker is without TLS: use amqps://, rediss:// or rediss-stream://.")
        yield _error(text, hint, "E037")


_TLS_SCHEMES = ("amqps", "rediss", "rediss-stream")


def _is_here(host: str) -> bool:
    """Whether the other end is on this machine: a socket in the file system, or a loopback address."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _error(text: str, hint: str, number: str) -> CheckMessage:
    return checks.Error(text, hint=hint, id=f"scheduler.{number}")
