from datetime import timedelta

import pytest

from console_app import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 ms"),
        (0, "0 ms"),
        (0.84, "840 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (12.4, "12.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 00 s"),
        (252, "4 m 12 s"),
        (3599.4, "59 m 59 s"),
        (3599.6, "1 h 00 m"),
        (7500, "2 h 05 m"),
        (86399, "23 h 59 m"),
        (86400, "1 d 0 h"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_duration_is_written_in_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_a_span_that_is_not_known_is_a_dash_and_a_timedelta_is_a_duration() -> None:
    assert formats.span(None) == "–"
    assert formats.span(timedelta(minutes=4, seconds=12)) == "4 m 12 s"


def test_counts_are_grouped_by_thousands() -> None:
    assert [formats.grouped(count) for count in (0, 999, 12480, 1234567)] == ["0", "999", "12,480", "1,234,567"]
