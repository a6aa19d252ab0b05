"""Where http runs may connect."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import ip_network

import pytest

from workers_app.outbound import AddressRefused, CheckedBackend, is_allowed, resolve

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "2002:0808:0808::1", "64:ff9b::808:808"]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.1.1",
    "169.254.169.254",
    "192.0.0.192",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "2002:7f00:0001::1",
    "2002:0a00:0001::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    assert is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_and_special_addresses_are_refused_in_every_form(address):
    assert not is_allowed(ipaddress.ip_address(address))


def test_the_allow_list_opens_its_ranges_and_no_others(settings):
    settings.SCHEDULER_HTTP_ALLOW = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1"):
        assert is_allowed(ipaddress.ip_address(address))
    for address in ("10.2.0.1", "127.0.0.1", "::1", "169.254.169.254"):
        assert not is_allowed(ipaddress.ip_address(address))


def answering(*addresses: str):
    return lambda *_args, **_options: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in addresses]


def test_a_name_that_leads_to_private_addresses_only_is_refused(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering("10.0.0.1", "169.254.169.254"))
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1, 169\.254\.169\.254"):
        resolve("metadata.example", 80)


def test_of_several_addresses_the_allowed_one_is_taken(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering("10.0.0.1", "8.8.8.8"))
    assert resolve("mixed.example", 80) == "8.8.8.8"


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    """A name that answers otherwise the second time must gain nothing: it is asked once."""
    answers = iter([answering("8.8.8.8")(), answering("127.0.0.1")()])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: next(answers))
    backend = CheckedBackend()
    connected = []

    class Inner:
        def connect_tcp(self, host, *_rest):
            connected.append(host)
            raise OSError("far away")

    monkeypatch.setattr(backend, "_inner", Inner())
    with pytest.raises(OSError, match="far away"):
        backend.connect_tcp("rebinding.example", 80)
    assert connected == ["8.8.8.8"]
