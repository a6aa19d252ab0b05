"""Values that must not be seen, in text, JSON and streams, in all the forms in which programs show them."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import shlex
import time
from urllib.parse import quote, quote_plus

import pytest

from access_app.masking import LEAST_BYTES, MaskedStream, Masks, known, masks_of

VALUE = "s3cr3t/äöü+'quoted' & \"more\""
LONG = "".join(random.Random(1).choices("abcdefghijklmnop0123456789", k=90))
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END KEY-----\n"


def streamed(masks: Masks, *pieces: bytes) -> bytes:
    stream = MaskedStream(masks)
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


@pytest.mark.parametrize(
    "shown",
    [
        VALUE,
        quote(VALUE),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        re.sub("%..", lambda found: found[0].lower(), quote(VALUE)),
        json.dumps(VALUE)[1:-1],
        json.dumps(VALUE, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(VALUE)[1:-1])[1:-1],
        html.escape(VALUE),
        shlex.quote(VALUE)[1:-1],
        repr(VALUE)[1:-1],
        VALUE.encode().hex(),
        VALUE.encode().hex().upper(),
        base64.b64encode(VALUE.encode()).decode(),
        base64.b64encode(f"{VALUE}\n".encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
    ],
)
def test_a_value_is_masked_as_it_is_quoted_escaped_and_encoded(shown):
    assert Masks([VALUE]).text(f"before {shown} after") == "before *** after"


@pytest.mark.parametrize("user", ["", "a", "ab", "abc", "somebody"])
def test_a_value_in_the_middle_of_something_encoded_is_masked_wherever_it_begins(user):
    encoded = base64.b64encode(f"{user}:{LONG}:more".encode()).decode()
    shown = Masks([LONG]).text(encoded)
    assert "***" in shown and len(shown) < 30


def test_a_long_value_is_masked_where_base64_breaks_its_lines():
    for text in (base64.encodebytes(LONG.encode()), base64.encodebytes(f"{LONG}\n".encode())):
        assert streamed(Masks([LONG]), text).replace(b"\n", b"") == b"***" * len(text.splitlines())


def test_each_line_of_a_value_of_several_lines_is_masked():
    masks = Masks([PEM])
    assert streamed(masks, f"key:\n{PEM}end\n".encode()) == b"key:\n***\n***\n***\n***\nend\n"
    assert masks.text("indented:    MIIEvQIBADANBgkqhkiG9w0BAQEF") == "indented:    ***"
    assert masks.text(json.dumps({"key": PEM})) == '{"key": "***"}'


def test_the_password_of_an_address_is_masked_alone_too():
    masks = Masks(["postgres://shop:pass%2Fword99@db.example/shop"])
    assert masks.text('password "pass/word99" for shop') == 'password "***" for shop'
    assert masks.text("connecting to postgres://shop:pass%2Fword99@db.example/shop") == "connecting to ***"


def test_what_is_shorter_than_a_word_is_not_masked():
    assert masks_of(["a" * (LEAST_BYTES - 1)]) is None
    assert masks_of([]) is None
    assert masks_of(["1" * LEAST_BYTES]) is not None


def test_text_that_only_looks_like_the_value_stays():
    masks = Masks([LONG])
    for text in (LONG[:-1], LONG[1:], LONG[:45] + " " + LONG[45:], "nothing of it"):
        assert masks.text(text) == text
        assert streamed(masks, text.encode()) == text.encode()


def test_values_that_overlap_leave_nothing_of_either():
    assert Masks(["abcdefgh", "efghijkl"]).text("x abcdefghijkl y") == "x *** y"
    assert Masks(["abababab"]).text("abababababab") == "***"
    assert Masks(["password", "password-longer"]).text("password-longer password") == "*** ***"


def test_a_json_value_is_masked_in_strings_names_and_numbers():
    value = {"a": [f"x{LONG}y", {LONG: 1}], "n": 123456, "f": 1.5, "t": True, "z": None}
    assert Masks([LONG, "123456"]).json(value) == {
        "a": ["x***y", {"***": 1}], "n": "***", "f": 1.5, "t": True, "z": None,
    }  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_a_stream_cut_anywhere_is_masked_as_a_whole_would_be(size):
    text = f"begin {LONG} {base64.b64encode(LONG.encode()).decode()}\n{LONG}{LONG}\nno end {LONG}".encode()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert streamed(Masks([LONG]), *pieces) == b"begin *** ***\n******\nno end ***"


def test_any_cut_of_any_text_gives_the_same():
    random_ = random.Random(7)
    masks = Masks(["ababab", "babaab", "aaaaaaa"])
    for _ in range(300):
        text = bytes(random_.choice(b"ab\n") for _ in range(random_.randrange(60)))
        cuts = sorted(random_.randrange(len(text) + 1) for _ in range(random_.randrange(6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert streamed(masks, *pieces) == masks.data(text), (text, cuts)


def test_a_line_without_an_end_is_masked_with_little_kept_back(monkeypatch):
    monkeypatch.setattr("access_app.masking._MOST_HELD", 10)
    random_ = random.Random(3)
    masks = Masks(["ababab", "bbabba", "aaaaaaa"])
    for _ in range(300):
        text = bytes(random_.choice(b"ab") for _ in range(random_.randrange(200)))
        stream, passed = MaskedStream(masks), b""
        for start in range(0, len(text), 5):
            passed += stream.feed(text[start : start + 5])
            assert len(stream._held) <= masks.reach + 10
        assert passed + stream.finish() == masks.data(text), text


def test_a_whole_line_is_passed_on_at_once_whatever_it_ends_in():
    stream = MaskedStream(Masks([LONG, PEM]))
    assert stream.feed(f"half of it: {LONG[:40]}\n".encode()) == f"half of it: {LONG[:40]}\n".encode()
    assert stream.feed(b"-----BEGIN KEY-----\n") == b"***\n"
    assert stream.feed(b"no end yet") == b""
    assert stream.feed(b"\n") == b"no end yet\n"


def test_the_log_hides_what_is_under_way_and_only_that():
    masks, again = masks_of([LONG]), masks_of([LONG])
    assert masks is not None and masks is again, "the same values are looked for once"
    known.add(masks)
    known.add(masks)
    known.discard(masks)
    assert known.text(f"token {LONG}") == "token ***"
    known.discard(masks)
    assert known.text(f"token {LONG}") == f"token {LONG}"


def test_masking_a_flood_takes_no_time_to_speak_of():
    text = b"an ordinary line of output of some program, 123456 rows in 0.25 s\n" * 60_000
    masks = Masks(f"{LONG}{n}" for n in range(8))
    began = time.perf_counter()
    assert streamed(masks, *(text[start : start + 65536] for start in range(0, len(text), 65536))) == text
    # Four megabytes of eight values take some 0.1 s; a search that grows with their product would take minutes.
    assert time.perf_counter() - began < 5
