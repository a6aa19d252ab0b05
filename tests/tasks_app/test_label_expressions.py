"""What a task requires of the labels of a worker: which workers will do, and what is refused with its place."""

from __future__ import annotations

import pytest

from tasks_app.label_expressions import LabelError, parse

GPU = {"gpu": "true", "zone": "a", "mem": "32"}


@pytest.mark.parametrize(
    ("text", "labels", "holds"),
    [
        ("", {}, True),
        ("  ", {}, True),
        ("gpu", GPU, True),
        ("gpu", {}, False),
        *[("gpu", {"gpu": value}, False) for value in ("false", "no", "0", "", "False")],
        *[("gpu", {"gpu": value}, True) for value in ("true", "2", "a100")],
        ("not spot", GPU, True),
        ("not spot", {"spot": "true"}, False),
        ("not spot", {"spot": "false"}, True),
        ("not not gpu", GPU, True),
        ("zone = a", GPU, True),
        ("zone == a", GPU, True),
        ("zone=b", GPU, False),
        ("zone = a", {}, False),
        ("zone != a", GPU, False),
        ("zone != a", {}, True),
        ("zone in (a, b)", GPU, True),
        ("zone in (b)", GPU, False),
        ("zone in (a)", {}, False),
        ("zone not in (a, b)", GPU, False),
        ("zone not in (b, c)", GPU, True),
        ("zone not in (b)", {}, True),
        ("mem >= 16", GPU, True),
        ("mem>=32", GPU, True),
        ("mem > 32", GPU, False),
        ("mem < 32.5", GPU, True),
        ("mem <= 31", GPU, False),
        ("mem >= 16", {}, False),
        ("mem >= 16", {"mem": "much"}, False),
        ("mem < 16", {"mem": "nan"}, False),
        ("mem = 32.0", GPU, True),
        ("mem in (16, 32.0)", GPU, True),
        ("temperature > -5", {"temperature": "-4"}, True),
        ("zone = 'a'", GPU, True),
        ('name = "two words"', {"name": "two words"}, True),
        ("node.kubernetes.io/os = linux", {"node.kubernetes.io/os": "linux"}, True),
        ("gpu and zone in (a, b) and not spot", GPU, True),
        ("gpu and zone in (a, b) and not spot", GPU | {"spot": "yes"}, False),
        ("zone = b or gpu and mem > 16", GPU, True),
        ("zone = b or gpu and mem > 64", GPU, False),
        ("(zone = b or gpu) and mem > 64", GPU, False),
        ("not (zone = b or spot)", GPU, True),
        ("not zone = b and gpu", GPU, True),
        ("ordinary or inner or nothing", {"inner": "1"}, True),
    ],
)
def test_an_expression_holds_for_the_workers_that_it_describes(text, labels, holds):
    assert parse(text).holds(labels) is holds


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("gpu and", 7, "the end"),
        ("and gpu", 0, "name of a label"),
        ("gpu zone", 4, "'and', 'or' or the end"),
        ("zone in a", 8, "'('"),
        ("zone in ()", 9, "a value"),
        ("zone in (a b)", 11, "')'"),
        ("zone not a", 5, "'and', 'or' or the end"),
        ("(gpu", 4, "')'"),
        ("gpu)", 3, "'and', 'or' or the end"),
        ("mem >= much", 7, "numbers"),
        ("mem > inf", 6, "numbers"),
        ("mem >=", 6, "a value"),
        ("zone = 'a", 7, "never closed"),
        ("zone @ a", 5, "@"),
        ("1st = a", 0, "name of a label"),
        ("__import__('os')", 10, "'and', 'or' or the end"),
        ("gpu; drop", 3, ";"),
        ("a" * 501, 500, "500"),
        ("not " * 21 + "gpu", 80, "20 levels"),
        ("(" * 21 + "gpu" + ")" * 21, 20, "20 levels"),
        ("x" * 64, 0, "name of a label"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, position, says):
    with pytest.raises(LabelError) as error:
        parse(text)
    assert error.value.position == position
    assert says in error.value.message and f"at character {position + 1}" in error.value.message


def test_the_parts_that_no_worker_has_are_named_and_the_others_are_not():
    requirement = parse("gpu and zone in (a, b) and (mem >= 16 and not spot) and (arm or x86)")
    workers = [{"zone": "a", "mem": "8"}, {"zone": "c", "mem": "64", "spot": "true"}]
    assert requirement.unmet(workers) == ["gpu", "arm or x86"]
    assert requirement.unmet([]) == ["gpu", "zone in (a, b)", "mem >= 16", "not spot", "arm or x86"]
    assert parse("zone = a and mem > 32").unmet(workers) == [], "each on some worker, all on none"
    assert not any(parse("zone = a and mem > 32").holds(labels) for labels in workers)


def test_hostile_texts_are_answered_at_once():
    for text in ("(" * 499, "not " * 125, "a and " * 83, "'" * 499, "=" * 500, "a,(" * 166, "\x00"):
        with pytest.raises(LabelError):
            parse(text)
