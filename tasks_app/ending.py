"""Asking runs to end: the one way for people, for overlap policies and for backfills."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce

from tasks_app import transitions
from tasks_app.models import Run
from tasks_app.states import RunState

UNSTARTED = (RunState.WAITING, RunState.QUEUED)


def ask_to_end(runs: QuerySet[Run], *, now: datetime, actor: str, detail: str = "", kill: bool = False) -> int:
    """Cancel those of `runs` that have not started, and ask the running ones to end; with `kill` at once, also those
    that were asked already and still wait out their grace. Returns how many it concerned; the number of statements does
    not grow with them. The caller nudges.
    """
    unasked = Q(terminate_requested_at=None) if kill else Q(cancel_requested_at=None)
    with transaction.atomic():
        # Held still meanwhile: one that went back to waiting between two looks would escape both, or be taken for
        # one that has not started yet.
        rows = runs.filter(Q(state__in=UNSTARTED) | Q(unasked, state=RunState.RUNNING)).order_by("pk")
        states = dict(rows.select_for_update(of=("self",), no_key=True).values_list("pk", "state"))
        if unstarted := [pk for pk, state in states.items() if state in UNSTARTED]:
            transitions.cancel_unstarted(unstarted, now=now, actor=actor, detail=detail)
        if running := [pk for pk, state in states.items() if state == RunState.RUNNING]:
            asked: dict[str, Any] = {"cancel_requested_at": Coalesce(F("cancel_requested_at"), now)}
            if kill:
                asked["terminate_requested_at"] = now
            Run.objects.filter(pk__in=running).update(**asked)
    return len(states)
