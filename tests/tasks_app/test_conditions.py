"""The grammar of conditions: what holds for which outcome, what is refused at which character."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.conditions import MAX_DEPTH, MAX_LENGTH, ROOTS, ConditionError, parse
from tests.tasks_app.clock import seconds_taken

VALUES: dict[str, Any] = {
    "state": "succeeded",
    "exit_code": 0,
    "attempt": 2,
    "output": {
        "rows": 5,
        "ratio": 0.5,
        "ok": True,
        "kind": "full",
        "none": None,
        "empty": [],
        "tags": ["a", 1, None],
        "parts": [{"id": 7}, {"id": 8}],
        "a key": {"0": "zero"},
    },
    "params": {"region": "eu", "limit": 5},
}


@pytest.mark.parametrize(
    "text",
    [
        'state == "succeeded"',
        "state == 'succeeded' and output.rows > 0",
        "output.rows >= 5 and output.rows <= 5 and not output.rows < 5 and not output.rows > 5",
        "output.rows == 5.0",
        "output.rows == params.limit",
        "output.ratio == 5e-1",
        "exit_code == -0",
        "output.rows > -1",
        'output.kind != "partial"',
        'output.kind < "g"',
        'params.region in ["eu", "us"]',
        'params.region in["eu"]',
        'params.region not in ["us"]',
        "params.region not in []",
        "1 in output.tags and null in output.tags",
        '"ul" in output.kind',
        '"rows" in output and "row" not in output',
        "output.parts[0].id == 7 and output.parts[-1].id == 8 and output.parts.1.id == 8",
        'output["a key"]["0"] == "zero" and output["a key"].0 == "zero"',
        "output.ok",
        "output.ok == true",
        "output.rows",
        "not output.empty and not output.none and not exit_code and not output.missing",
        "output.none == null and output.missing == null and output.missing.deeper[3] == null",
        "output.rows != null and null == null and not null != null",
        "true or false and false",
        "not false and true",
        "not (true and false)",
        "not not true",
        "not output.rows == 6",
        "(((output.rows)))  ==  5",
        "\n state\t==\n'succeeded' ",
        r'"a\"b\\\n" == "a\"b\\\n"',
        "(output.rows > 3) == true",
    ],
)
def test_a_condition_holds(text):
    assert parse(text).holds(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        'state == "failed"',
        "false or output.rows > 5",
        "(true or false) and false",
        'output.rows == "5"',
        'output.rows != "5"',
        'output.rows < "6"',
        'output.rows > "4"',
        "output.ok == 1",
        "output.ok > false",
        "output.none < 1",
        "output.none >= null",
        "output.missing > 0",
        "output.missing != null",
        "output.parts == output.parts",
        "output.empty == false",
        "5 in output.kind",
        "5 not in output.kind",
        "true in output.tags",
        "1 in null",
        "1 not in null",
        "output.parts[2].id == 7",
        "output.parts[-3]",
        "output.kind[0]",
        "output.rows.x",
        "reason",
    ],
)
def test_a_condition_does_not_hold(text):
    assert not parse(text).holds(VALUES)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "Expected a value, found the end"),
        ("   ", 3, "found the end"),
        ("state ==", 8, "Expected a value"),
        ("state = 1", 6, "'=' does not belong here"),
        ("state == 'x", 9, "never closed"),
        ("state == 1 2", 11, "'and', 'or' or the end"),
        ("1 < output.rows < 5", 16, "cannot be chained"),
        ("state == 1 not in [2]", 11, "cannot be chained"),
        ("(state == 1", 11, "Expected ')'"),
        ("state == 1)", 10, "'and', 'or' or the end, found ')'"),
        ("state in [1, state]", 13, "Expected a value, found 'state'"),
        ("state in [1 2]", 12, "Expected ','"),
        ("state in [1,]", 12, "Expected a value"),
        ("state not 5", 6, "'and', 'or' or the end, found 'not'"),
        ("and", 0, "found 'and'"),
        ("status == 1", 0, "'status' is unknown; there are attempt, exit_code"),
        ("__import__('os')", 0, "unknown"),
        ("output.__class__()", 16, "found '('"),
        ("state == 1x", 9, "does not belong here"),
        ("output.", 6, "does not belong here"),
        ("output[x]", 7, "'x' is unknown"),
        ("output['rows']", 6, "found '['"),
        (r'"a\x"', 2, "Unknown escape"),
        ("state == ü", 9, r"'\xfc' does not belong here"),
        ("state == 1" + "0" * 40, 9, "does not belong here"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH, "more than 1000 characters"),
        ("(" * 25, MAX_DEPTH, "levels deep"),
        ("not " * 25, MAX_DEPTH * 4, "levels deep"),
    ],
)
def test_a_malformed_condition_is_refused_at_its_character(text, position, words):
    with pytest.raises(ConditionError) as caught:
        parse(text)
    assert caught.value.position == position
    assert words in caught.value.message
    assert f"character {position + 1}" in str(caught.value)


def test_the_paths_that_it_reads_are_known():
    found = parse('output.rows > 0 or params["a b"] in [1] and output.rows < 9')
    assert found.paths == {("output", "rows"), ("params", "a b")}


def test_conditions_of_one_text_are_equal():
    assert parse("state") == parse("state") != parse("reason")
    assert hash(parse("state")) == hash(parse("state"))


def test_the_longest_and_deepest_condition_is_answered_at_once():
    wide = parse(" or ".join(["state"] * 110))
    deep = parse("(" * MAX_DEPTH + "state" + ")" * MAX_DEPTH)
    assert not wide.holds({}) and not deep.holds({})
    assert seconds_taken(lambda: parse(wide.text)) < 0.05


def test_a_hostile_text_is_refused_at_once():
    def refused() -> None:
        with pytest.raises(ConditionError):
            parse("'" + "\\" * (MAX_LENGTH - 1))

    assert seconds_taken(refused) < 0.05


# Random conditions

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
LITERALS = st.sampled_from(["null", "true", "false", "0", "1", "-1", "2.5", '""', '"a"', "[]", '[1, "a", null]'])
PATHS = st.sampled_from(["state", "output", "output.a", "output.b.c", "output[0]", 'params["c"]', "output.a[-1].b"])
OPERANDS = st.one_of(LITERALS, PATHS)
CONDITIONS = st.recursive(
    st.builds(
        " ".join, st.tuples(OPERANDS, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"]), OPERANDS)
    )
    | OPERANDS,
    lambda inner: (
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=6,
)
OUTCOMES = st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(ROOTS), JSON))


@settings(max_examples=300, deadline=None)
@given(text=CONDITIONS, values=OUTCOMES)
def test_any_condition_has_an_answer_for_any_values(text: str, values: dict[str, Any]) -> None:
    held = parse(text).holds(values)
    assert parse(f"not ({text})").holds(values) is not held
    assert parse(f"({text}) and true").holds(values) is held
    assert parse(f"({text}) or false").holds(values) is held


@settings(deadline=None)
@given(left=OPERANDS, right=OPERANDS, values=OUTCOMES)
def test_equal_and_unequal_never_hold_together_and_order_has_one_direction(left: str, right: str, values: Any) -> None:
    held = {sign: parse(f"{left} {sign} {right}").holds(values) for sign in ("==", "!=", "<", ">", "<=", ">=")}
    assert not (held["=="] and held["!="])
    assert not (held["<"] and held[">"])
    assert held["<"] <= held["<="] and held[">"] <= held[">="]
    assert held["<"] == parse(f"{right} > {left}").holds(values)


@settings(deadline=None)
@given(st.text(alphabet="ab \"'\\()[].,0123<>=!-{}_" + "notandorinstate", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(ConditionError):
        parse(text).holds(VALUES)
