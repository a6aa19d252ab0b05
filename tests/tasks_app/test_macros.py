"""Macros: what is substituted, with which type, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.macros import MAX_CHARACTERS, MacroError, expand, names_of_run, references
from tests.tasks_app.clock import at, seconds_taken

NAMES = names_of_run(
    run_id=12,
    attempt=2,
    run_type="scheduled",
    task="report",
    project="sales",
    nominal_at=at("2026-03-01T23:30:00Z"),
    zone="Europe/Berlin",
    params={
        "region": "eu",
        "limit": 5,
        "ratio": 0.5,
        "dry": True,
        "none": None,
        "list": [1, "two"],
        "evil": "{{ run.id }}",
    },
    upstream={"load": {"rows": 42}, "load data": {"rows": 7}, "quiet": None},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("{ not } a } macro }}", "{ not } a } macro }}"),
        ("{{ nominal_time }}", "2026-03-01T23:30:00Z"),
        ("{{nominal_date}}", "2026-03-02"),
        ("{{ run.id }}", 12),
        ("{{ run.attempt }}/{{ run.type }}", "2/scheduled"),
        ("{{ task.project }}-{{ task.name }}", "sales-report"),
        ("{{ params.limit }}", 5),
        ("{{ params.ratio }}", 0.5),
        ("{{ params.dry }}", True),
        ("{{ params.none }}", None),
        ("{{ params.list }}", [1, "two"]),
        ("{{ params.list[-1] }}", "two"),
        ("{{ params }}", NAMES["params"]),
        ("{{ upstream.load.rows }}", 42),
        ('{{ upstream["load data"].rows }}', 7),
        ("rows={{ upstream.load.rows }}", "rows=42"),
        ("{{ params.dry }} {{ params.ratio }}", "true 0.5"),
        (" {{ params.limit }}", " 5"),
        ("{{ params.region }}{{ params.region }}", "eueu"),
        ('{{ "{{" }} .Names }}', "{{ .Names }}"),
        ('{{ "{{" }}', "{{"),
    ],
)
def test_a_macro_is_replaced_and_alone_it_keeps_its_type(text, value):
    found = expand(text, NAMES)
    assert found == value and type(found) is type(value)


def test_values_are_replaced_at_any_depth_and_keys_are_not():
    value = {"{{ run.id }}": [{"x": ["{{ run.id }}", 1, None, True]}]}
    assert expand(value, NAMES) == {"{{ run.id }}": [{"x": [12, 1, None, True]}]}


def test_what_was_substituted_is_not_looked_into_again():
    assert expand("{{ params.evil }}", NAMES) == "{{ run.id }}"
    assert expand("<{{ params.evil }}>", NAMES) == "<{{ run.id }}>"


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("{{ nominal }}", "nominal", "there are nominal_date, nominal_time, params, run, task, upstream"),
        ("{{ params.regoin }}", "params.regoin", "params.region"),
        (
            "{{ upstream.extract.rows }}",
            "upstream.extract.rows",
            'upstream.load, upstream.quiet, upstream["load data"]',
        ),
        ("{{ upstream.load.count }}", "upstream.load.count", "there are upstream.load.rows"),
        ("{{ upstream.quiet.rows }}", "upstream.quiet.rows", "upstream.quiet is a single value"),
        ("{{ params.list[7] }}", "params.list[7]", "params.list is a list of 2"),
        ("{{ run.id.x }}", "run.id.x", "run.id is a single value"),
        ("a {{ params.none }}", "params.none", "null"),
        ("a {{ params.list }}", "params.list", "a list or an object"),
        ("{{ 7 * 7 }}", "7 * 7", "is no name"),
        ("{{ params.x | upper }}", "params.x | upper", "is no name"),
        ("{{ run.id() }}", "run.id()", "is no name"),
        ("{{ }}", "", "is no name"),
        ("a {{ run.id", "{{ run.id", "no '}}' closes"),
        ("{{" + " " * 600 + "}}", "{{" + " " * 38, "within 500 characters"),
        ("{{ {{ run.id }} }}", "{{ run.id", "is no name"),
        ('{{ "a" "b" }}', '"a" "b"', "is no name"),
    ],
)
def test_what_cannot_be_replaced_is_named(text, name, words):
    with pytest.raises(MacroError) as caught:
        expand({"x": [text]}, NAMES)
    assert caught.value.name == name
    assert words in caught.value.message


def test_an_empty_object_says_that_it_is_empty():
    with pytest.raises(MacroError, match=r"params\.x is unknown; params is empty\."):
        expand("{{ params.x }}", {"params": {}})


def test_the_result_is_bounded():
    names = {"params": {"big": "x" * (MAX_CHARACTERS // 4), "list": ["y" * MAX_CHARACTERS]}}
    assert len(expand("{{ params.big }}" * 4, names)) == MAX_CHARACTERS
    for value in ("{{ params.big }}" * 5, ["{{ params.big }}"] * 5, "{{ params.list }}", "z" * (MAX_CHARACTERS + 1)):
        with pytest.raises(MacroError, match="more than 262144 characters"):
            expand(value, names)


def test_depth_is_bounded():
    value: Any = "x"
    for _ in range(60):
        value = [value]
    for act in (lambda: expand(value, NAMES), lambda: references(value)):
        with pytest.raises(MacroError, match="levels deep"):
            act()
    for _ in range(10_000):
        value = [value]
    with pytest.raises(MacroError, match="too deeply"):
        expand("{{ params.x }}", {"params": {"x": value}})


def test_hostile_braces_are_refused_at_once():
    def refused() -> None:
        with pytest.raises(MacroError):
            expand("{{" + " " * 100_000 + '"' * 100_000, NAMES)

    assert seconds_taken(refused) < 0.05
    assert seconds_taken(lambda: expand("}}{ " * 60_000, NAMES)) < 0.05


def test_references_are_found_without_values():
    value = {"a": "{{ upstream.load.rows }} {{ run.id }}", "b": ["{{ params.x }}", 5, '{{ "{{" }}'], "{{ c }}": None}
    assert references(value) == {("upstream", "load", "rows"), ("run", "id"), ("params", "x")}
    with pytest.raises(MacroError):
        references(["{{ a b }}"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
PIECES = st.lists(st.sampled_from(["{{", "}}", "{", "}", " ", "run.id", "params", '"', "x", "."]), max_size=12).map(
    "".join
)


@settings(deadline=None)
@given(JSON.filter(lambda value: "{{" not in json.dumps(value)))
def test_a_value_without_macros_stays_as_it_is(value: Any) -> None:
    assert expand(value, NAMES) == value
    assert references(value) == frozenset()


@settings(deadline=None)
@given(JSON)
def test_any_value_of_a_parameter_arrives_unchanged(value: Any) -> None:
    assert expand(["{{ params.x }}"], {"params": {"x": value}}) == [value]


@settings(deadline=None)
@given(PIECES)
def test_any_text_is_replaced_or_refused_and_plain_braces_stay(text: str) -> None:
    with suppress(MacroError):
        found = expand(text, NAMES)
        assert found == text if "{{" not in text else "run.id" not in text or found != text
