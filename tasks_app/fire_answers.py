"""What a fire can answer, and what the state of its run says. Pure."""

from __future__ import annotations

from enum import StrEnum

from tasks_app.states import Reason, RunState


class Answer(StrEnum):
    """What became of an instant."""

    RUN = "run"  # a run that may run, runs or ran
    SKIPPED = "skipped"  # a rule decided that it need not run
    HELD = "held"  # a run that somebody keeps from starting
    COALESCED = "coalesced"  # one of several late ones, of which others ran
    MISSED = "missed"  # too late when a dispatcher came
    EXPIRED = "expired"  # a run that could not start before its deadline
    UNANSWERED = "unanswered"  # due, and nobody has answered yet


def answer_of(state: str, reason: str, *, held: bool, paused: bool) -> tuple[str, str]:
    """Answer and reason of an instant that became a run: its state, whether it is held, and whether a pause of its task
    keeps its waiting runs from starting."""
    match state:
        case RunState.SKIPPED:
            return Answer.SKIPPED, reason
        case RunState.UPSTREAM_FAILED:
            return Answer.SKIPPED, reason or Reason.UPSTREAM
        case RunState.EXPIRED:
            return Answer.EXPIRED, reason or Reason.START_DEADLINE
        case RunState.WAITING if held:
            return Answer.HELD, "held"
        case RunState.WAITING if paused:
            return Answer.HELD, "paused"
        case _:
            return Answer.RUN, reason
