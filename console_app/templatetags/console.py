"""Template tags and filters of the console: states, durations, sizes, counts, times, terminal output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from console_app import ansi, formats, states

register = template.Library()


@register.simple_tag
def state(code: str) -> SafeString:
    """A state as glyph, word and colour; the glyph is hidden from screen readers."""
    look = states.look(str(code))
    return format_html(
        '<span class="state hue-{}"><span class="glyph" aria-hidden="true">{}</span>{}</span>',
        look.hue,
        look.glyph,
        look.word,
    )


@register.simple_tag
def square(code: str, label: str = "") -> SafeString:
    """A state as its glyph alone, for strips of outcomes; the word is there for screen readers and as a tooltip."""
    look = states.look(str(code))
    text = f"{label} {look.word}".strip()
    return format_html(
        '<span class="square hue-{}" title="{}"><span aria-hidden="true">{}</span>'
        '<span class="visually-hidden">{}</span></span>',
        look.hue,
        text,
        look.glyph,
        text,
    )


@register.filter
def state_word(code: str) -> str:
    return str(states.look(str(code)).word)


@register.filter
def duration(value: timedelta | float | None) -> str:
    """A timedelta or a number of seconds, as `12.4 s`; None as a dash."""
    return formats.span(value)


@register.filter
def bytes_size(count: int | None) -> str:
    return "–" if count is None else formats.size(count)


@register.filter
def grouped(count: int | None) -> str:
    return "–" if count is None else formats.grouped(count)


@register.simple_tag
def when(value: datetime | None, mode: str = "full") -> SafeString | str:
    """An instant as `<time>`: written in UTC here, rewritten by the browser in the reader's zone.

    mode: `full` (time and how long ago), `clock` (the time alone), `relative` (how long ago or until, alone).
    """
    if value is None:
        return "–"
    instant = value.astimezone(UTC)
    return format_html(
        '<time datetime="{}" data-when="{}" title="{} UTC">{}</time>',
        _iso(instant),
        mode,
        instant.strftime("%Y-%m-%d %H:%M:%S"),
        instant.strftime("%Y-%m-%d %H:%M:%S"),
    )


@register.simple_tag
def now_iso() -> str:
    """The server's clock, from which the browser learns how far its own is off."""
    return _iso(datetime.now(UTC))


@register.simple_tag
def growing(start: datetime | None, end: datetime | None = None) -> SafeString | str:
    """The time from start to end; while there is no end it keeps growing in the browser."""
    if start is None:
        return "–"
    if end is not None:
        return formats.span(end - start)
    return format_html('<span data-since="{}">{}</span>', _iso(start), formats.span(datetime.now(UTC) - start))


@register.filter
def terminal(text: str) -> SafeString:
    """A line of run output: escaped, terminal colours kept, every other escape dropped."""
    return ansi.render(text)


@register.filter
def item(mapping: dict[Any, Any], key: Any) -> Any:
    """The value under a key that is known only while rendering; None when it is not there."""
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def section(context: template.Context, *names: str) -> SafeString | str:
    """`aria-current="page"` when the current view belongs to one of the named ones."""
    match = getattr(context.get("request"), "resolver_match", None)
    current = getattr(match, "url_name", None)
    return SafeString('aria-current="page"') if current in names else ""


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
