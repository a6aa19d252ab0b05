"""Paths into JSON values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.value_paths import look_up, scan, written

VALUE: dict[str, Any] = {"a": {"b": [10, {"c": None}]}, "a-b": 1, "0": "zero"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("a.b[1].c", ("a", "b", 1, "c")),
        ("a.b.0", ("a", "b", "0")),
        ('a["b c"][-1]', ("a", "b c", -1)),
        ("a-b_c9", ("a-b_c9",)),
    ],
)
def test_a_path_is_read_and_written_back(text, path):
    assert scan(text, 0) == (path, len(text))
    assert written(path) == text


@pytest.mark.parametrize(
    ("text", "end"), [("a.b c", 3), ("a..b", 1), ("a[b]", 1), ('a[""]', 1), ("a[1", 1), ("a.ü", 1)]
)
def test_a_path_ends_where_it_cannot_go_on(text, end):
    found = scan(text, 0)
    assert found is not None and found[1] == end


@pytest.mark.parametrize("text", ["", "1a", ".a", "[0]", " a", "ü"])
def test_no_path_begins_with_anything_but_a_name(text):
    assert scan(text, 0) is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (("a", "b", 0), (True, 10)),
        (("a", "b", "0"), (True, 10)),
        (("a", "b", -1, "c"), (True, None)),
        (("a", "b", 2), (False, None)),
        (("a", "b", -3), (False, None)),
        (("a", "b", "²"), (False, None)),
        (("a", "b", "c"), (False, None)),
        (("a", "x"), (False, None)),
        (("a-b", "x"), (False, None)),
        ((0,), (True, "zero")),
    ],
)
def test_a_path_leads_to_a_value_or_nowhere(path, found):
    assert look_up(VALUE, path) == found


STEPS = st.one_of(
    st.integers(-999, 999), st.text(min_size=1, max_size=9).filter(lambda text: '"' not in text and "\\" not in text)
)


@settings(deadline=None)
@given(start=st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}", fullmatch=True), steps=st.lists(STEPS, max_size=5))
def test_what_is_written_is_read_the_same(start: str, steps: list[str | int]) -> None:
    text = written((start, *steps))
    assert scan(text, 0) == ((start, *steps), len(text))
