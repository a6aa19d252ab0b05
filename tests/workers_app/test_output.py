"""Output: what is kept of it, in which order, and what it costs."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from tasks_app.models import RunOutput
from tests.workers_app.jobs import texts
from workers_app.lines import LINE_OVERHEAD
from workers_app.output import OutputSink, store


@pytest.fixture
def small(settings):
    """200 bytes at the head, 200 at the tail; a line costs 24 beside its text."""
    settings.SCHEDULER_OUTPUT_BYTES = 400
    settings.SCHEDULER_LINE_BYTES = 50


def fed(*pieces: bytes | tuple[str, bytes]) -> OutputSink:
    sink = OutputSink(1, 1)
    for piece in pieces:
        stream, data = piece if isinstance(piece, tuple) else ("stdout", piece)
        sink.feed(stream, data)
    sink.close()
    return sink


def test_lines_cut_anywhere_are_put_together_again():
    assert texts(fed(b"on", b"e\ntw", b"o\r\nthree", b"\n\n", b"four")) == ["one", "two", "three", "", "four"]


def test_the_streams_do_not_run_into_each_other():
    sink = fed(("stdout", b"out"), ("stderr", b"err"), ("stdout", b"put\n"), ("stderr", b"or\n"))
    assert [line[1:] for row in sink.drain() for line in row["lines"]] == [("stdout", "output"), ("stderr", "error")]


def test_lines_are_there_before_the_run_ends_and_each_is_drained_once():
    sink = OutputSink(1, 1)
    sink.feed("stdout", b"one\ntwo\nthr")
    assert [(row["first_line"], row["line_count"]) for row in sink.drain()] == [(0, 2)]
    assert sink.drain() == []
    sink.feed("stdout", b"ee\n")
    assert [(row["first_line"], row["line_count"]) for row in sink.drain()] == [(2, 1)]


def test_invalid_utf8_and_nul_become_replacement_characters():
    assert texts(fed(b"a\xffb\x00c\n", "schön\n".encode())) == ["a\ufffdb\ufffdc", "schön"]


def test_a_character_cut_in_two_between_reads_is_whole_again():
    euro = "€".encode()
    assert texts(fed(b"10 " + euro[:1], euro[1:] + b"\n")) == ["10 €"]


@pytest.mark.django_db
def test_what_the_database_would_refuse_is_stored():
    from tests.tasks_app.making import make_task, plan

    (run,) = plan(make_task())
    sink = OutputSink(run, 1)
    sink.feed("stdout", b"\x00\xed\xa0\x80\xff\n")
    sink.note("half a pair: \ud800")
    sink.close()
    store(sink.drain())
    (row,) = RunOutput.objects.filter(run=run)
    assert [len(line) for line in row.lines] == [3, 3]


def test_output_below_the_cap_has_no_marker(small):
    sink = fed(b"1234567890\n" * 5, b"x" * 10 + b"\n")
    assert texts(sink) == ["1234567890"] * 5 + ["x" * 10]
    assert sink.drain() == []


def test_output_above_the_cap_keeps_head_and_tail_with_a_marker_between(small):
    lines = [f"line {number:05d}" for number in range(100)]
    sink = fed(*(f"{line}\n".encode() for line in lines))
    rows = sink.drain()
    kept = [text for row in rows for _at, _stream, text in row["lines"]]
    (marker,) = [text for text in kept if "left out" in text]
    place = kept.index(marker)
    assert kept[:place] == lines[:place] and place >= 5
    assert kept[place + 1 :] == lines[-len(kept) + place + 1 :] and len(kept) - place - 1 >= 5
    dropped = 100 - (len(kept) - 1)
    assert f"{dropped * 11:,} bytes" in marker
    assert [row["truncated"] for row in rows] == [True]


def test_the_tail_of_a_flood_in_large_reads_is_the_end_of_the_flood(small):
    flood = b"".join(b"%06d\n" % number for number in range(100_000))
    kept = texts(fed(*(flood[at : at + 65536] for at in range(0, len(flood), 65536))))
    assert kept[0] == "000000" and kept[-1] == "099999"
    assert all(len(text) == 6 for text in kept if "left out" not in text), "no line is torn"


def test_what_stderr_had_begun_when_stdout_filled_the_head_is_not_lost(settings):
    settings.SCHEDULER_OUTPUT_BYTES = 2000
    kept = texts(fed(("stderr", b"warn"), b"0123456789\n" * 31, ("stderr", b"ing\n")))
    assert [text for text in kept if "warn" in text] == ["warning"]


def test_a_long_line_is_cut_and_says_how_much_is_missing(small):
    assert texts(fed(b"a" * 40, b"a" * 40 + b"\nnext\n")) == [
        "a" * 50 + " … 30 bytes of this line were left out",
        "next",
    ]


def test_a_line_without_end_is_kept_to_its_limit(small):
    assert texts(fed(*[b"z" * 1000] * 50)) == ["z" * 50 + " … 49,950 bytes of this line were left out"]


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (b'{"rows": 3}\n', {"rows": 3}),
        (b"[1, 2]", [1, 2]),
        (b'{"a": 1}\n\n  \n', {"a": 1}),
        (b'{"a": 1}\n{"a": 2}\n', {"a": 2}),
        (b'{"a": 1}\ndone\n', None),
        (b"42\n", None),
        (b'"text"\n', None),
        (b"{broken\n", None),
        (b'{"a": NaN}\n', None),
        (b'{"a": 1e999}\n', None),
        (b"[" * 600 + b"]" * 600 + b"\n", None),
        (b"[" * 50_000 + b"]" * 50_000, None),
        (b'{"a": "x\\u0000"}\n', {"a": "x\ufffd"}),
        (b"", None),
    ],
)
def test_the_last_line_of_stdout_is_the_output_when_it_is_an_object_or_list(output, found):
    assert fed(output).last_json == found


def test_the_result_survives_a_flood_on_stderr_and_is_not_taken_from_there(small):
    assert fed(b'{"a": 1}\n', ("stderr", b'{"b": 2}\n' * 1000)).last_json == {"a": 1}


def test_a_result_longer_than_a_shown_line_is_whole_and_one_over_64_kib_is_none(settings):
    settings.SCHEDULER_LINE_BYTES = 1000
    text = '{"a": "' + "x" * 40_000 + '"}'
    assert fed(text[:30_000].encode(), text[30_000:].encode() + b"\n").last_json == {"a": "x" * 40_000}
    assert fed(b'{"a": "' + b"x" * 66_000 + b'"}\n').last_json is None


def test_fifty_megabytes_of_yes_cost_neither_memory_nor_seconds():
    sink = OutputSink(1, 1)
    chunk = b"y\n" * 32768
    tracemalloc.start()
    started = time.process_time()
    for _ in range(800):
        sink.feed("stdout", chunk)
    sink.close()
    seconds = time.process_time() - started
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 1024 * 1024
    assert seconds < 15, "the interpreter lock belongs to all runs of the worker"
    assert texts(sink)[-1] == "y"


@pytest.mark.parametrize("piece", [b"\n", b"x", b"\x00"])
def test_memory_stays_flat_for_a_flood_in_single_bytes_on_both_streams(piece):
    sink = OutputSink(1, 1)
    sink.feed("stdout", b"head\n" * 20_000)
    tracemalloc.start()
    for _ in range(60_000):
        sink.feed("stdout", piece)
        sink.feed("stderr", piece)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


@pytest.mark.parametrize("line", [b"\n", b"a line of text\n"])
def test_one_read_of_many_lines_is_cut_to_the_cap_with_what_a_line_costs_beside_its_text(settings, line):
    sink = OutputSink(1, 1)
    sink.feed("stdout", line * 2_000_000)
    sink.close()
    cost = sum(len(text) + LINE_OVERHEAD for text in texts(sink))
    # The marker is beyond the cap.
    assert settings.SCHEDULER_OUTPUT_BYTES // 2 < cost <= settings.SCHEDULER_OUTPUT_BYTES + 200
