"""The steps by which a run was ended, in words."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from tasks_app.end_steps import ASKED, ENDED, KILL_ASKED, ladders
from tasks_app.models import EndStep, Run

WORDS: dict[str, str | Promise] = {
    ASKED: _("asked to stop"),
    KILL_ASKED: _("asked to be killed"),
    ENDED: _("ended"),
    **dict(EndStep.Step.choices),
}


class ShownStep(NamedTuple):
    """A step in words, with the time since the first one in seconds."""

    word: str | Promise
    at: datetime
    attempt: int
    after: float


def ladder(run: Run) -> list[ShownStep]:
    """The steps towards the end of the run, oldest first; none where nobody ended it."""
    rungs = ladders([run]).get(run.pk, [])
    return [ShownStep(WORDS[rung.step], rung.at, rung.attempt, rung.after) for rung in rungs]
