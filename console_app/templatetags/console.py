"""Template tags and filters of the console: states, durations, counts, times, terminal output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django import template
from django.template import Context
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from access_app import approvals
from access_app.roles import Verb, project_ids_with
from console_app import ansi, formats, states
from tasks_app.models import Run

register = template.Library()

BADGES = {
    "dst_gap": _("clocks go forward: moved to after the gap"),
    "dst_repeat_first": _("clocks go back: the first of two"),
    "dst_repeat_second": _("clocks go back: the second of two"),
    "calendar": _("moved to the next allowed time"),
}


@register.simple_tag(takes_context=True)
def gives_roles(context: Context) -> bool:
    """Whether the reader may give roles anywhere."""
    actor = context["request"].META.get("console.actor")
    return actor is not None and project_ids_with(actor, Verb.MANAGE) != []


@register.simple_tag(takes_context=True)
def approvals_waiting(context: Context) -> int:
    """How many requests for approval the reader may decide, or is to review."""
    actor = context["request"].META.get("console.actor")
    if actor is None:
        return 0
    return approvals.waiting_for(actor, now=timezone.now()).count() + approvals.to_review(actor).count()


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
def square(code: str, run_id: int) -> SafeString:
    """The outcome of a run as a glyph alone; id and word are there for screen readers and as a tooltip."""
    look = states.look(str(code))
    text = f"#{run_id} {look.word}"
    return format_html(
        '<span class="square hue-{}" title="{}"><span aria-hidden="true">{}</span>'
        '<span class="visually-hidden">{}</span></span>',
        look.hue,
        text,
        look.glyph,
        text,
    )


@register.filter
def duration(value: timedelta | float | None) -> str:
    """A timedelta or a number of seconds, as `12.4 s`; None as a dash."""
    return formats.span(value)


@register.filter
def grouped(count: int | None) -> str:
    return "–" if count is None else formats.grouped(count)


@register.filter
def percent(value: float | None) -> str:
    return "–" if value is None else formats.percent(value)


@register.filter
def size(count: int | None) -> str:
    return "–" if count is None else formats.size(count)


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
def iso_clock(text: str) -> str:
    """The time of day of an ISO 8601 instant in UTC, as the log shows it before the browser knows better."""
    return text[11:19]


@register.filter
def local_clock(text: str) -> str:
    """`2026-03-28 02:00+01:00`: an ISO 8601 instant with its offset, in the zone of its schedule."""
    return datetime.fromisoformat(text).isoformat(sep=" ", timespec="minutes")


@register.simple_tag
def badge_text(code: str) -> str:
    """What is special about a fire; a code that is not known is shown as it is."""
    return str(BADGES.get(code, code))


@register.filter
def start_delay(run: Run) -> str:
    """How long after its nominal time a run started."""
    return formats.span(run.started_at - run.nominal_at if run.started_at and run.nominal_at else None)


@register.simple_tag(takes_context=True)
def section(context: template.Context, *names: str) -> SafeString | str:
    """`aria-current="page"` when the current view belongs to one of the named ones."""
    match = getattr(context.get("request"), "resolver_match", None)
    current = getattr(match, "url_name", None)
    return SafeString('aria-current="page"') if current in names else ""


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
