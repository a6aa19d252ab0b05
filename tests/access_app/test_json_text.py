"""JSON texts: what is read, what is refused, and how."""

from __future__ import annotations

import pytest

from access_app.json_text import MAX_DEPTH, JSONFault, NotJSON, is_too_deep, loads


def test_plain_json_is_read_as_it_is():
    assert loads('{"a": [1, 2.5, null, true, "x"], "b": {"a": -7}}') == {"a": [1, 2.5, None, True, "x"], "b": {"a": -7}}


@pytest.mark.parametrize("text", ["", "{", "{a: 1}", "word", "1 2", "NaN", "[Infinity]", '{"a": -Infinity}'])
def test_a_text_that_is_no_json_is_told_from_json_that_is_refused(text):
    with pytest.raises(NotJSON):
        loads(text)


@pytest.mark.parametrize("text", ["1e999", "[-1e999]", "9" * 301, '{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]'])
def test_json_that_nobody_can_store_or_mean_is_refused(text):
    with pytest.raises(JSONFault) as raised:
        loads(text)
    assert not isinstance(raised.value, NotJSON)
    assert raised.value.name == ("a" if "a" in text else "")


def test_nesting_that_exhausts_the_stack_is_refused():
    with pytest.raises(NotJSON, match="levels deep"):
        loads("[" * 100_000 + "]" * 100_000)


def test_a_name_that_no_answer_can_carry_is_shown_without_its_faults():
    with pytest.raises(JSONFault) as raised:
        loads(r'{"a\u0000\ud800": 1, "a\u0000\ud800": 2}')
    assert raised.value.name == "a\ufffd?"


@pytest.mark.parametrize("kind", ["object", "array"])
@pytest.mark.parametrize(("levels", "answer"), [(0, False), (MAX_DEPTH, False), (MAX_DEPTH + 1, True), (50_000, True)])
def test_levels_are_counted_however_many_there_are(kind, levels, answer):
    value: object = 1
    for _level in range(levels):
        value = {"a": value, "b": 0} if kind == "object" and levels > 1 else [0, value]
    assert is_too_deep(value) is answer
