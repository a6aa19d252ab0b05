"""Concurrency keys: what may stand in one, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app.concurrency_keys import check_template, key_of, key_or_template
from tasks_app.macros import MacroError
from tests.tasks_app.clock import at

KNOWN: dict[str, Any] = {
    "task": "load",
    "project": "shop",
    "nominal_at": at("2026-03-02T23:30:00Z"),
    "zone": "Europe/Berlin",
    "params": {"region": "eu", "n": 5, "flag": True, "share": 0.5, "none": None, "list": [1], "empty": ""},
}


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("fixed", "fixed"),
        ("{{ params.region }}", "eu"),
        ("{{ params.region }}-{{ params.n }}", "eu-5"),
        ("{{ params.n }}", "5"),
        ("{{ params.flag }}", "true"),
        ("{{ params.share }}", "0.5"),
        ("{{ nominal_time }}", "2026-03-02T23:30:00Z"),
        ("{{ nominal_date }}", "2026-03-03"),
        ("{{ task.project }}/{{ task.name }}", "shop/load"),
    ],
)
def test_a_key_is_text(template, key):
    assert key_of(template, **KNOWN) == key


@pytest.mark.parametrize(
    "template",
    ["{{ params.other }}", "{{ params.none }}", "{{ params.list }}", "{{ params.empty }}", "{{ params }}", "{{ oops",
     "{{ upstream.load.rows }}", "{{ run.id }}"],
)  # fmt: skip
def test_what_gives_no_key_says_so_and_is_its_own_key_where_nobody_is_there_to_hear(template):
    with pytest.raises(MacroError):
        key_of(template, **KNOWN)
    assert key_or_template(template, **KNOWN) == template


def test_a_key_is_no_longer_than_its_column():
    long = {**KNOWN, "params": {"region": "x" * 201}}
    with pytest.raises(MacroError, match="201"):
        key_of("{{ params.region }}", **long)
    assert len(key_of("{{ params.region }}", **{**KNOWN, "params": {"region": "x" * 200}})) == 200


@pytest.mark.parametrize("template", ["{{ params.x }}", "{{ task.name }}{{ nominal_date }}", "plain", ""])
def test_a_template_may_name_what_is_known_before_the_run(template):
    check_template(template)


@pytest.mark.parametrize(
    ("template", "name"),
    [("{{ upstream.load.rows }}", "upstream"), ("{{ run.id }}", "run"), ("{{ parms.x }}", "parms"), ("{{ x", "{{ x")],
)
def test_a_template_that_names_anything_else_is_refused_by_that_name(template, name):
    with pytest.raises(MacroError) as caught:
        check_template(template)
    assert caught.value.name == name
