"""Rules that every template and style keeps."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.template import Context, Template
from django.template.loader import render_to_string
from django.utils import translation

from console_app import states
from tasks_app.states import RunState
from workers_app.models import WorkerState

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
FORBIDDEN = {
    "an inline style": r"\sstyle\s*=",
    "an inline handler": r"\son[a-z]+\s*=\s*[\"'{]",
    "a style element": r"<style\b",
    "an inline script": r"<script(?![^>]*\bsrc=)",
    "a javascript address": r"javascript:",
    "hx-on, which needs eval": r"\bhx-on\b",
    "hx-vals js, which needs eval": r"hx-vals=[\"']js:",
    "a trigger filter, which needs eval": r"hx-trigger=\"[^\"]*\[",
    "markup that is trusted": r"\|safe\b|autoescape off",
    "an address of another host": r"(?:src|href)=\"https?://",
}


def _render(text: str, **values: object) -> str:
    return Template("{% load console %}" + text).render(Context(values))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_a_template_holds_nothing_that_the_content_policy_forbids(path):
    text = path.read_text()
    for name, pattern in FORBIDDEN.items():
        assert not re.search(pattern, text), f"{path.name} has {name}"


def test_the_search_for_forbidden_markup_finds_it():
    samples = ['<p style="x">', '<a onclick="x">', "<style>", "<script>x</script>", '<a href="javascript:x">']
    samples += ['<b hx-on:click="x">', "<b hx-vals='js:{}'>", '<b hx-trigger="click[x]">', "{{ x|safe }}"]
    samples += ['<img src="https://cdn.example/x">']
    assert len(samples) == len(FORBIDDEN)
    for sample, pattern in zip(samples, FORBIDDEN.values(), strict=True):
        assert re.search(pattern, sample), sample


def test_our_scripts_need_no_eval_and_stay_small():
    scripts = sorted((ROOT / "static" / "console").glob("*.js"))
    text = "\n".join(path.read_text() for path in scripts)
    assert not re.search(r"\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write", text)
    assert len(text.splitlines()) <= 600


@pytest.mark.parametrize("code", [*RunState, *WorkerState.values, "paused", "held", "late"])
def test_every_state_has_a_look_with_glyph_word_and_a_colour_of_the_style_sheet(code):
    look = states.look(code)
    assert look.hue != states.UNKNOWN_HUE or code in ("waiting", "skipped")
    assert f".hue-{look.hue} " in (ROOT / "static" / "console" / "console.css").read_text()
    assert look.glyph
    assert str(look.word)


def test_an_unknown_state_is_shown_by_its_code_escaped():
    html = _render("{% state code %}", code="<new>")
    assert "&lt;new&gt;" in html
    assert "<new>" not in html


def test_a_state_is_glyph_word_and_colour_and_its_glyph_is_not_read_aloud():
    assert _render("{% state 'timed_out' %}") == (
        '<span class="state hue-bad"><span class="glyph" aria-hidden="true">✕</span>timed out</span>'
    )
    assert 'title="#7 failed"' in _render("{% square 'failed' 7 %}")


def test_a_time_is_written_in_utc_for_the_browser_to_rewrite():
    at = datetime(2026, 3, 1, 9, 5, 7, 250_000, tzinfo=UTC).astimezone()
    html = _render("{% when at 'relative' %}", at=at)
    assert 'datetime="2026-03-01T09:05:07.250Z"' in html
    assert 'data-when="relative"' in html
    assert ">2026-03-01 09:05:07</time>" in html
    assert _render("{% when at %}", at=None) == "–"


def test_a_duration_grows_only_while_there_is_no_end():
    start = datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert _render("{% growing start end %}", start=start, end=start + timedelta(seconds=252)) == "4 m 12 s"
    assert _render("{% growing start %}", start=start).startswith('<span data-since="2026-03-01T09:00:00.000Z">')
    assert _render("{% growing start %}", start=None) == "–"


def test_filters_write_what_is_unknown_as_a_dash():
    assert _render("{{ n|grouped }} {{ n|duration }}", n=None) == "– –"
    assert _render("{{ n|grouped }} {{ n|duration }}", n=12480) == "12,480 3 h 28 m"


def test_the_local_time_of_a_fire_keeps_its_offset_and_badges_are_sentences():
    assert _render("{{ t|local_clock }}", t="2026-03-29T03:00:00+02:00") == "2026-03-29 03:00+02:00"
    assert _render("{% badge_text 'dst_gap' %} {% badge_text 'new' %}").endswith(" new")


@pytest.mark.parametrize("code", ["404", "403", "500"])
def test_the_error_pages_render_without_a_request(code):
    page = render_to_string(f"{code}.html")
    assert f">{code}<" in page
    assert "<script" not in page


def test_the_console_speaks_both_languages(as_alice, task):
    assert as_alice.post("/language/", {"language": "zh-hans", "next": "/tasks/"})["Location"] == "/tasks/"
    page = as_alice.get("/tasks/").text
    assert '<html lang="zh-hans"' in page
    assert "任务" in page
    with translation.override("zh-hans"):
        assert str(states.look("failed").word) == "失败"
    as_alice.post("/language/", {"language": "en"})
    assert '<html lang="en"' in as_alice.get("/tasks/").text
