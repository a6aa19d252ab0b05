"""Where a request comes from: the one place that says the client's address, and whether it may knock here at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.conf import settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# No header of a request becomes an entry of this name.
_REMEMBERED = "scheduler.client_address"
_BRACKETED = re.compile(r"^\[([^\]]*)\](?::\d{1,5})?$")
_WITH_PORT = re.compile(r"^([^:]*):\d{1,5}$")
_MAPPED = ip_network("::ffff:0:0/96")


def client_address(request: Any) -> str | None:
    """The address of whoever sent the request, or None where it cannot be told.

    `X-Forwarded-For` is believed only as far as trusted proxies wrote it: read from the right, the first address that
    is none of theirs is the client. What stands left of it is the client's own word.
    """
    meta = request.META
    if _REMEMBERED not in meta:
        found = _found(parsed(meta.get("REMOTE_ADDR", "")), meta.get("HTTP_X_FORWARDED_FOR", ""))
        meta[_REMEMBERED] = None if found is None else str(found)
    remembered: str | None = meta[_REMEMBERED]
    return remembered


def _found(peer: Address | None, forwarded: str) -> Address | None:
    proxies = settings.SCHEDULER_TRUSTED_PROXIES
    client = peer
    for text in reversed(forwarded.split(",") if forwarded else ()):
        if client is None or not is_within(client, proxies):
            break
        # Nobody but a trusted proxy wrote this one: where it makes no sense, the client is unknown.
        client = parsed(text)
    return client


def parsed(text: str) -> Address | None:
    """The address, without port, brackets and zone; a mapped one as the IPv4 address that it stands for."""
    text = text.strip()
    if match := _BRACKETED.match(text) or _WITH_PORT.match(text):
        text = match[1]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def parsed_network(text: str) -> Network:
    """The range that was written, or a single address as a range of one. Raises ValueError."""
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):  # type: ignore[arg-type]  # of one family
        inner = network.network_address.ipv4_mapped
        return ip_network(f"{inner}/{network.prefixlen - 96}", strict=False)
    return network


def is_within(address: Address, networks: Iterable[Network]) -> bool:
    """Whether the address lies in one of the ranges."""
    return any(address.version == network.version and address in network for network in networks)


def may_come_from(address: str | None, networks: Iterable[Network]) -> bool:
    """Whether a client may come from there; no range at all means from everywhere, an unknown address lies in none."""
    ranges = list(networks)
    if not ranges:
        return True
    known = None if address is None else parsed(address)
    return known is not None and is_within(known, ranges)


def key_may_come_from(address: str | None, ranges: Iterable[str]) -> bool:
    """The same for the ranges of a key, as they were written."""
    return may_come_from(address, map(_remembered_network, ranges))


_remembered_network = lru_cache(maxsize=1024)(parsed_network)


def neighbourhood(address: str | None) -> str:
    """What counts as one place: an IPv4 address, or the /64 of an IPv6 one, which a single machine has to itself."""
    known = None if address is None else parsed(address)
    if isinstance(known, IPv6Address):
        return str(ip_network((known, 64), strict=False))
    return str(known or "unknown")
