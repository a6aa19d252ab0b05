"""How each state looks: always a glyph, a word and a colour; the colour is a class of the style sheet."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class Look(NamedTuple):
    glyph: str
    word: str | Promise
    hue: str


UNKNOWN_HUE = "idle"
LOOKS: dict[str, Look] = {
    "waiting": Look("○", _("waiting"), "idle"),
    "queued": Look("◔", _("queued"), "live"),
    "running": Look("●", _("running"), "live"),
    "succeeded": Look("✓", _("succeeded"), "good"),
    "failed": Look("✕", _("failed"), "bad"),
    "timed_out": Look("✕", _("timed out"), "bad"),
    "cancelled": Look("■", _("cancelled"), "stopped"),
    "skipped": Look("↷", _("skipped"), "idle"),
    "upstream_failed": Look("⇡", _("upstream failed"), "bad"),
    "expired": Look("⌀", _("expired"), "gone"),
    "lost": Look("⌀", _("lost"), "gone"),
    "quarantined": Look("⌀", _("quarantined"), "gone"),
    # Not states of a run, but shown in the same language.
    "late": Look("↻", _("late"), "late"),
    "held": Look("‖", _("held"), "held"),
    "paused": Look("‖", _("paused"), "held"),
    "active": Look("●", pgettext_lazy("task", "active"), "good"),
    "disabled": Look("‖", _("disabled"), "held"),
    # What became of an instant of a schedule.
    "fire_run": Look("●", pgettext_lazy("instant", "run"), "live"),
    "fire_skipped": Look("↷", pgettext_lazy("instant", "skipped"), "idle"),
    "fire_held": Look("‖", pgettext_lazy("instant", "held"), "held"),
    "fire_coalesced": Look("↻", pgettext_lazy("instant", "coalesced"), "late"),
    "fire_missed": Look("⌀", pgettext_lazy("instant", "missed"), "gone"),
    "fire_expired": Look("⌀", pgettext_lazy("instant", "expired"), "gone"),
    "fire_unanswered": Look("✕", pgettext_lazy("instant", "unanswered"), "bad"),
    # A backfill.
    "done": Look("✓", pgettext_lazy("backfill", "done"), "good"),
    "closed": Look("●", pgettext_lazy("circuit breaker", "working"), "good"),
    "half_open": Look("◔", pgettext_lazy("circuit breaker", "trying again"), "late"),
    "open": Look("✕", pgettext_lazy("circuit breaker", "tripped"), "bad"),
    "online": Look("●", pgettext_lazy("worker", "online"), "good"),
    "cordoned": Look("‖", pgettext_lazy("worker", "cordoned"), "held"),
    "draining": Look("◔", pgettext_lazy("worker", "draining"), "late"),
    "offline": Look("■", pgettext_lazy("worker", "offline"), "stopped"),
}


def look(state: str) -> Look:
    """The look of a state; one that this version does not know is shown by its code."""
    return LOOKS.get(state) or Look("○", state, UNKNOWN_HUE)
