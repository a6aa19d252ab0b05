"""Whose address counts: X-Forwarded-For as far as trusted proxies wrote it, and lists of ranges."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from django.test import Client, RequestFactory

from access_app.models import AuditEntry
from access_app.network import client_address, may_come_from, neighbourhood, parsed, parsed_network

PROXIES = [ip_network("10.0.0.0/24"), ip_network("fd00::/64")]


def seen_from(peer: str, forwarded: str | None = None) -> str | None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return client_address(RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # Nobody in between: the header is the client's own word.
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
        # One proxy: what it wrote stands last, whatever the client has written before.
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.2, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "no address at all, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", ", , 203.0.113.9", "203.0.113.9"),
        # Two proxies, and a client that claims to be a third one.
        ("10.0.0.1", "192.0.2.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9,10.0.0.2 ,\t10.0.0.3", "203.0.113.9"),
        # The proxy itself asks, or clients sit in its own network.
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.7", "10.0.0.7"),
        # Forms of addresses.
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("fd00:0:0:1::1", "2001:db8::1", "fd00:0:0:1::1"),
        # What the proxy wrote makes no sense: then the client is not known, and nobody left of it is believed.
        ("10.0.0.1", "203.0.113.9, unknown", None),
        ("10.0.0.1", "203.0.113.9, _hidden", None),
        ("10.0.0.1", "203.0.113.9, ", None),
        ("10.0.0.1", "203.0.113.9, 1.2.3", None),
        ("10.0.0.1", "203.0.113.9, 010.0.0.1", None),
        ("10.0.0.1", "[203.0.113.9", None),
        ("10.0.0.1", "203.0.113.9:port", None),
        ("", "203.0.113.9", None),
    ],
)
def test_the_first_address_from_the_right_that_is_no_proxy_is_the_client(settings, peer, forwarded, expected):
    settings.SCHEDULER_TRUSTED_PROXIES = PROXIES
    assert seen_from(peer, forwarded) == expected


def test_without_trusted_proxies_the_header_says_nothing(settings):
    settings.SCHEDULER_TRUSTED_PROXIES = []
    assert seen_from("10.0.0.1", "203.0.113.9") == "10.0.0.1"


def test_no_header_takes_the_place_of_the_address_that_was_found():
    request = RequestFactory().get("/", headers={"scheduler.client_address": "1.2.3.4"})
    assert client_address(request) == "127.0.0.1"


def test_a_range_of_mapped_addresses_is_one_of_those_that_they_stand_for():
    assert parsed_network("::ffff:10.0.0.0/104") == ip_network("10.0.0.0/8")
    assert parsed_network(" 10.1.2.3 ") == ip_network("10.1.2.3/32")
    assert parsed_network("2001:db8::5/64") == ip_network("2001:db8::/64")
    with pytest.raises(ValueError, match="intranet"):
        parsed_network("intranet")


def test_an_unknown_address_lies_in_no_range_and_without_ranges_everybody_may_come():
    ranges = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
    assert may_come_from("10.9.8.7", ranges) and may_come_from("2001:db8::9", ranges)
    assert may_come_from("::ffff:10.9.8.7", ranges)
    assert not may_come_from("11.0.0.1", ranges) and not may_come_from("::a00:1", ranges)
    assert not may_come_from(None, ranges) and may_come_from(None, [])


def test_an_address_with_a_zone_or_in_brackets_is_read_and_a_name_is_not():
    assert str(parsed("[::1]")) == "::1" and str(parsed("fe80::1%eth0")) == "fe80::1"
    assert parsed("localhost") is None and parsed("") is None and parsed("1.2.3.4/24") is None


def test_a_whole_64_of_ipv6_is_one_neighbourhood():
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff") != neighbourhood("2001:db8:0:1::1")
    assert neighbourhood("10.0.0.1") != neighbourhood("10.0.0.2") and neighbourhood(None) == "unknown"


# The list of addresses that may come at all


def from_address(address: str, **headers: str) -> Client:
    return Client(REMOTE_ADDR=address, headers=headers)


@pytest.fixture
def only_the_office(db, settings):
    settings.SCHEDULER_IP_ALLOW_LIST = [ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")]
    settings.SCHEDULER_TRUSTED_PROXIES = PROXIES


@pytest.mark.parametrize("address", ["198.51.100.7", "2001:db8::7", "::ffff:198.51.100.7"])
def test_whoever_is_on_the_list_comes_in(only_the_office, address):
    assert from_address(address).get("/sign-in/").status_code == 200
    assert from_address(address).get("/api/tasks").status_code == 401
    assert not AuditEntry.objects.filter(after__reason="address_not_allowed").exists()


@pytest.mark.parametrize("path", ["/", "/sign-in/", "/admin/", "/api/tasks", "/api/auth/token", "/metrics", "/nowhere"])
def test_whoever_is_not_on_the_list_is_turned_away_everywhere_and_it_is_audited(only_the_office, path):
    response = from_address("203.0.113.9").get(path)
    assert response.status_code == 403
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.address, entry.after) == ("refused", "203.0.113.9", {"reason": "address_not_allowed"})
    assert entry.request_id == response["X-Request-ID"]


def test_a_program_reads_a_problem_with_a_code(only_the_office):
    response = from_address("203.0.113.9").get("/api/tasks")
    assert response.json()["code"] == "address_not_allowed"
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/health", "/health/", "/health/live", "/health/live/"])
def test_the_liveness_probe_comes_from_anywhere_and_the_readiness_probe_does_not(only_the_office, path):
    assert from_address("203.0.113.9").get(path).status_code == 200
    assert from_address("203.0.113.9").get("/health/ready").status_code == 403


def test_a_forged_header_opens_nothing(only_the_office):
    forged = {"X-Forwarded-For": "198.51.100.7", "X-Real-IP": "198.51.100.7", "Forwarded": "for=198.51.100.7"}
    assert from_address("203.0.113.9", **forged).get("/api/tasks").status_code == 403
    through_a_proxy = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}
    assert from_address("10.0.0.1", **through_a_proxy).get("/api/tasks").status_code == 403
    garbled = {"X-Forwarded-For": "198.51.100.7, unknown"}
    assert from_address("10.0.0.1", **garbled).get("/api/tasks").status_code == 403
    honest = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    assert from_address("10.0.0.1", **honest).get("/api/tasks").status_code == 401
    assert list(AuditEntry.objects.order_by("id").values_list("address", flat=True)) == ["203.0.113.9", None]
