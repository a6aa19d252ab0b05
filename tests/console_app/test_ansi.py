import pytest

from console_app.ansi import render


def test_colours_become_classes_and_end_at_a_reset() -> None:
    assert render("a \x1b[1;31mred\x1b[0m b") == 'a <span class="sgr-bold sgr-red">red</span> b'


def test_bright_and_background_colours_are_the_same_eight() -> None:
    assert render("\x1b[92;44mok\x1b[39m.") == (
        '<span class="sgr-green sgr-on-blue">ok</span><span class="sgr-on-blue">.</span>'
    )


def test_palette_and_true_colours_become_the_nearest_of_the_eight() -> None:
    assert render("\x1b[38;5;196mx") == '<span class="sgr-red">x</span>'
    assert render("\x1b[38;2;10;220;30mx") == '<span class="sgr-green">x</span>'
    assert render("\x1b[48;5;250mx") == '<span class="sgr-on-white">x</span>'


@pytest.mark.parametrize("codes", ["38", "38;5", "38;2;1", "38;9;9", "999", ";;;", "4:3", "38;5;999999999"])
def test_incomplete_or_unknown_colours_do_no_harm(codes: str) -> None:
    assert "x" in render(f"\x1b[{codes}mx")
    assert "\x1b" not in render(f"\x1b[{codes}mx")


def test_markup_in_output_is_escaped_inside_and_outside_colours() -> None:
    html = render("<script>alert(1)</script>\x1b[31m\"'&<b>")
    assert "<script" not in html
    assert "<b>" not in html
    assert html.endswith('<span class="sgr-red">&quot;&#x27;&amp;&lt;b&gt;</span>')


@pytest.mark.parametrize(
    "sequence",
    [
        "\x1b[2J",
        "\x1b[10;20H",
        "\x1b[?25l",
        "\x9b31m\x9b0m",
        "\x1b]0;title\x07",
        "\x1b]8;;http://evil.example\x1b\\",
        "\x1bPq#0;2\x1b\\",
        "\x1b(B",
        "\x1bc",
        "\x07\x08\x0b\x00",
        "\u202e",
    ],
)
def test_every_other_escape_is_dropped(sequence: str) -> None:
    assert render(f"a{sequence}b") == "ab"


def test_a_progress_bar_shows_what_was_drawn_last() -> None:
    assert render("10 %\r50 %\r100 %\r\n") == "100 %"


def test_tabs_and_other_scripts_stay() -> None:
    assert render("a\tb 任务 ✓") == "a\tb 任务 ✓"


def test_an_escape_that_is_cut_off_swallows_nothing_but_itself() -> None:
    assert [render(text) for text in ("a\x1b", "a\x1b[", "a\x1b[31", "a\x1b]0;b")] == ["a", "a", "a", "a"]
