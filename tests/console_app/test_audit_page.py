"""The page of the audit trail: who did what to which object, for administrators alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from access_app import audit, audit_chain
from access_app.actors import system_actor
from access_app.models import AuditEntry
from console_app.paging import PAGE_SIZE
from tasks_app.models import Project


@pytest.fixture
def as_root(root_user) -> Client:
    client = Client()
    client.force_login(root_user)
    return client


def write(actor: str, verb: str = "edit", **changes) -> None:
    project = Project.objects.get(name="default")
    audit.append(system_actor(actor), verb, project, now=timezone.now(), **changes)


def test_the_page_tells_who_did_what_with_the_values_before_and_after(as_root):
    write("alice", before={"slots": 2}, after={"slots": 30, "note": "<b>é</b>"})
    write("bob", "delete", before={"name": "old"})
    page = as_root.get("/audit/").text
    assert page.index("bob") < page.index("alice")
    assert "<dt>slots</dt><dd><del>2</del> → <ins>30</ins></dd>" in page
    assert "<dt>note</dt><dd><ins>&quot;&lt;b&gt;é&lt;/b&gt;&quot;</ins></dd>" in page
    assert "<dt>name</dt><dd><del>&quot;old&quot;</del></dd>" in page
    assert "Sealed up to" not in page
    audit_chain.seal(timezone.now())
    assert "Sealed up to link 2" in as_root.get("/audit/").text


def test_of_many_values_the_first_that_say_something_are_shown_and_the_others_folded(as_root):
    write(
        "alice",
        after={"name": "load", "note": "", "slots": None, "weight": 1, "tags": [], "pool": "default", "weight_now": 2},
    )
    page = as_root.get("/audit/").text
    shown, _details, folded = page.partition("<summary>4 more values</summary>")
    for name in ("name", "weight", "pool"):
        assert f"<dt>{name}</dt>" in shown
    for name in ("note", "slots", "tags", "weight_now"):
        assert f"<dt>{name}</dt>" in folded and f"<dt>{name}</dt>" not in shown


def test_filters_keep_what_matches_and_stay_in_the_form(as_root):
    write("alice")
    write("bob", "pause")
    for query, shown in (
        ("actor=ALI", "alice"),
        ("verb=pause", "bob"),
        ("object_type=project", "alice"),
        ("object_name=fault", "bob"),
        ("verb=pause&actor=bob", "bob"),
    ):
        page = as_root.get(f"/audit/?{query}").text
        assert f">{shown}</td>" in page and "Clear filters" in page
    assert ">alice</td>" not in as_root.get("/audit/?verb=pause").text
    assert "No entry matches." in as_root.get("/audit/?actor=carol").text
    hour = (timezone.now() - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert ">bob</td>" in as_root.get(f"/audit/?at_after={hour}").text
    assert ">bob</td>" not in as_root.get(f"/audit/?at_before={hour}").text
    assert f'<input type="hidden" name="at_after" value="{hour}">' in as_root.get(f"/audit/?at_after={hour}").text


def test_a_filter_that_cannot_be_read_is_said_and_shows_nothing(as_root):
    write("alice")
    page = as_root.get("/audit/?at_after=yesterday").text
    assert "at_after: Enter a valid date/time." in page and ">alice</td>" not in page


def test_pages_go_by_id(as_root):
    for _ in range(PAGE_SIZE + 2):
        write("alice")
    first = as_root.get("/audit/").text
    assert first.count(">alice</td>") == PAGE_SIZE
    oldest = AuditEntry.objects.order_by("-pk")[PAGE_SIZE - 1].pk
    assert f'href="?before={oldest}"' in first
    assert as_root.get(f"/audit/?before={oldest}").text.count(">alice</td>") == 2


def test_nobody_but_an_administrator_sees_it_or_the_way_to_it(as_root, as_alice):
    assert as_alice.get("/audit/").status_code == 403
    assert 'href="/audit/"' in as_root.get("/").text and 'href="/audit/"' not in as_alice.get("/").text
    assert Client().get("/audit/").status_code == 302
