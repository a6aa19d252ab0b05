"""Rules for failures that are final: what may be written, and what is refused with which words."""

from __future__ import annotations

import pytest

from tasks_app.never_retry import NeverRetry, NeverRetryError, parse


def test_rules_are_read_as_they_are_written():
    rules = {
        "exit_codes": [2, -9],
        "exceptions": ["ValueError", "shop.errors.Refused"],
        "statuses": ["404", "4xx", 410],
    }
    assert parse(rules) == NeverRetry(
        frozenset({2, -9}), frozenset({"ValueError", "shop.errors.Refused"}), frozenset({"404", "4xx", "410"})
    )
    assert parse({}) == parse({"exit_codes": []}) == NeverRetry()


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ([], "object"),
        (None, "object"),
        ({"exit_code": [1]}, "exit_code"),
        ({"exit_codes": 2}, "list"),
        ({"exit_codes": {"2": True}}, "list"),
        ({"exit_codes": list(range(1, 102))}, "100"),
        ({"exit_codes": ["2"]}, "'2'"),
        ({"exit_codes": [True]}, "True"),
        ({"exit_codes": [0]}, "0"),
        ({"exit_codes": [256]}, "256"),
        ({"exit_codes": [2.0]}, "2.0"),
        ({"exceptions": ["Value Error"]}, "Value Error"),
        ({"exceptions": [""]}, "''"),
        ({"exceptions": [5]}, "5"),
        ({"exceptions": ["a." * 150 + "b"]}, "name"),
        ({"statuses": ["4x"]}, "4x"),
        ({"statuses": ["604"]}, "604"),
        ({"statuses": [True]}, "True"),
        ({"statuses": [["404"]]}, "404"),
    ],
)
def test_rules_that_would_never_apply_are_refused_by_name(rules, word):
    with pytest.raises(NeverRetryError) as caught:
        parse(rules)
    assert word in str(caught.value)
