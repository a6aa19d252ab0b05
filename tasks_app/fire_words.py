"""The fire ledger in words."""

from __future__ import annotations

from collections import Counter

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks_app.fire_answers import Answer
from tasks_app.fire_counts import Tally

ANSWERS: dict[str, Promise] = {
    Answer.RUN: gettext_lazy("ran"),
    Answer.SKIPPED: gettext_lazy("skipped"),
    Answer.HELD: gettext_lazy("held"),
    Answer.COALESCED: gettext_lazy("coalesced"),
    Answer.MISSED: gettext_lazy("missed"),
    Answer.EXPIRED: gettext_lazy("expired"),
    Answer.UNANSWERED: gettext_lazy("unanswered"),
}
REASONS: dict[tuple[str, str], Promise] = {
    (Answer.SKIPPED, "overlap"): gettext_lazy("skipped by overlap"),
    (Answer.SKIPPED, "upstream"): gettext_lazy("skipped by upstream"),
    (Answer.SKIPPED, "paused"): gettext_lazy("skipped while paused"),
    (Answer.SKIPPED, "edited"): gettext_lazy("skipped by an edit"),
    (Answer.SKIPPED, "draining"): gettext_lazy("skipped while draining"),
    (Answer.SKIPPED, "calendar"): gettext_lazy("skipped by the calendar"),
    (Answer.HELD, "held"): gettext_lazy("held by hand"),
    (Answer.HELD, "paused"): gettext_lazy("held by the pause"),
    (Answer.COALESCED, "catch_up_last"): gettext_lazy("coalesced into the last one"),
    (Answer.COALESCED, "max_catch_up"): gettext_lazy("coalesced beyond the most to catch up"),
    (Answer.COALESCED, "calendar"): gettext_lazy("coalesced at the next allowed time"),
    (Answer.MISSED, "start_deadline"): gettext_lazy("missed beyond the start deadline"),
    (Answer.MISSED, "catch_up_none"): gettext_lazy("missed without catching up"),
    (Answer.MISSED, "catch_up_window"): gettext_lazy("missed beyond the catch-up window"),
    (Answer.EXPIRED, "start_deadline"): gettext_lazy("expired at the start deadline"),
}


def answer_words(answer: str, reason: str = "") -> str:
    """An answer with its reason, as it stands behind a number; a reason that is not known is shown by its code."""
    known = REASONS.get((answer, reason))
    if known is not None:
        return str(known)
    word = str(ANSWERS.get(answer, answer))
    return f"{word} ({reason})" if reason and answer != Answer.RUN else word


def terms(tally: Tally) -> list[tuple[str, str, int]]:
    """The (answer, reason, count) that add up to what was expected: what ran is one, whatever became of it."""
    counts: Counter[tuple[str, str]] = Counter()
    for (answer, reason), n in tally.counts.items():
        counts[answer, "" if answer == Answer.RUN else reason] += n
    order = list(Answer)
    return sorted(
        ((a, r, n) for (a, r), n in counts.items() if n), key=lambda t: (order.index(Answer(t[0])), -t[2], t[1])
    )


def equation(tally: Tally) -> str:
    """`1,440 expected = 1,436 ran + 3 skipped by overlap + 1 missed`, and what is still to come."""
    explained = " + ".join(f"{n:,} {answer_words(answer, reason)}" for answer, reason, n in terms(tally))
    text = _("%(n)s expected") % {"n": f"{tally.expected:,}"}
    text += f" = {explained}" if explained else ""
    return text + (_("; %(n)s still to come") % {"n": f"{tally.to_come:,}"} if tally.to_come else "")
