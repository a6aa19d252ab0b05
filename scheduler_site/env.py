"""Typed readers for the environment. Every variable of ours is read here or in settings.py, nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from environs import FileAwareEnv

BASE_DIR = Path(__file__).resolve().parent.parent

env = FileAwareEnv(strip_whitespace=True)
env.read_env(str(BASE_DIR / ".env"), recurse=False)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Read a variable that must be one of `allowed`; raises ImproperlyConfigured naming the choices."""
    value: str = env.str(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")
    return value


def several(name: str, allowed: tuple[str, ...]) -> list[str]:
    """Read words of `allowed`, separated by commas; raises ImproperlyConfigured for another one."""
    given: list[str] = env.list(name, [])
    words = [word.strip() for word in given if word.strip()]
    for word in words:
        if word not in allowed:
            raise ImproperlyConfigured(f"{name} has {word!r}; it takes {' and '.join(allowed)}, split by commas.")
    return words


def place(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """Read a place: the word `default`, or an address of one of the schemes; raises ImproperlyConfigured otherwise."""
    value: str = env.str(name, default)
    if value != default and not any(value.startswith(scheme) and value != scheme for scheme in schemes):
        forms = ", ".join(f"{scheme}…" for scheme in schemes)
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be {default} or begin with one of {forms}.")
    return value


def positive(name: str, default: float) -> float:
    """Read a number of seconds (or a count) above zero; raises ImproperlyConfigured otherwise."""
    value: float = env.float(name, default)
    if value <= 0:
        raise ImproperlyConfigured(f"{name} is {value}; it must be above 0.")
    return value


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Read address ranges separated by commas; raises ImproperlyConfigured for one that is none."""
    texts: list[str] = env.list(name, [])
    try:
        return [ip_network(text.strip(), strict=False) for text in texts if text.strip()]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}. Write ranges such as 10.1.0.0/16, split by commas.") from None


def sql_connections(prefix: str) -> dict[str, str]:
    """Read every variable that begins with `prefix` as the URL of a database: {name in lower case: URL}.

    Raises ImproperlyConfigured for a scheme that `sql` runs do not know; the URL, which may hold a password, is not in
    the message.
    """
    names = {name.removesuffix("_FILE") for name in os.environ if name.startswith(prefix)}
    found: dict[str, str] = {name.removeprefix(prefix).lower(): env.str(name) for name in sorted(names)}
    for name, url in found.items():
        if not url.startswith(("postgres://", "postgresql://", "sqlite:///")):
            raise ImproperlyConfigured(f"{prefix}{name.upper()} must begin with postgres:// or sqlite:///.")
    return found


def own_cluster() -> str:
    """The address of the API of the Kubernetes cluster that this process runs in; empty outside of one."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else ""


def database(name: str, default: str) -> dict[str, Any]:
    """Read a database URL into a Django DATABASES entry.

    SQLite gets write-ahead logging and IMMEDIATE transactions, so that writers queue for the lock at BEGIN instead of
    failing at their first write; PostgreSQL gets health-checked persistent connections.
    Raises ImproperlyConfigured for an unknown scheme.
    """
    url: str = env.str(name, default)
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except (ValueError, KeyError, dj_database_url.UnknownSchemeError, dj_database_url.ParseError) as error:
        raise ImproperlyConfigured(f"{name} is not a database URL that we know: {error}") from error
    options: dict[str, Any] = dict(config.get("OPTIONS") or {})
    if config["ENGINE"] == "django.db.backends.sqlite3":
        options |= {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000",
        }
        _make_parent(config)
    elif config["ENGINE"] == "django.db.backends.postgresql":
        config |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
        options.setdefault("connect_timeout", 5)
        options.setdefault("options", " ".join(f"-c {name}={value}" for name, value in _SERVER_SIDE.items()))
        options |= _KEEPALIVES
    else:
        raise ImproperlyConfigured(f"{name} names {config['ENGINE']}; PostgreSQL and SQLite are supported.")
    return config | {"OPTIONS": options}


# What the server is asked to do for a connection of ours.
_SERVER_SIDE: Mapping[str, Any] = {
    # Statements here touch a few rows each; on stale statistics PostgreSQL would compile them first, for seconds.
    "jit": "off",
    # A process frozen in the middle of a transaction, or a machine that is gone, would keep its locks for hours, and
    # everybody else from those rows. The server ends such a session well inside the recovery promise of 30 s.
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 3,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 15000,
}
# And our side of it: a half-open connection must show itself to a worker while there is time to renew its lease over
# another one, and to a dispatcher that has several of them, one after the other.
_KEEPALIVES: Mapping[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 6000,
}


def _make_parent(config: Mapping[str, Any]) -> None:
    path = str(config["NAME"])
    if path and ":memory:" not in path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)


PRODUCTION = choice("SCHEDULER_ENV", "development", ("development", "production")) == "production"
