"""Letting a run out of quarantine: as it is, with more memory, or alone on its worker."""

from __future__ import annotations

from datetime import datetime

from django.db import models, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_app import audit
from access_app.actors import Actor
from access_app.approval_models import Kind
from access_app.roles import Verb, require
from access_app.second_person import held
from tasks_app.errors import InvalidInput, WrongState
from tasks_app.models import Run
from tasks_app.models.run import RunType
from tasks_app.planning import Firing, plan_runs
from tasks_app.queries import get_visible
from tasks_app.services import places
from tasks_app.services.pauses import require_taking_runs
from tasks_app.services.task_rules import RUN_LIMITS
from tasks_app.states import TERMINAL, RunState
from tasks_app.wakeup import nudge

TIMES_MEMORY = 2


class Release(models.TextChoices):
    """What is to be different for a run that was in quarantine."""

    AS_IS = "as_is", gettext_lazy("as it is")
    MORE_MEMORY = "more_memory", gettext_lazy("with more memory")
    ALONE = "alone", gettext_lazy("alone on its worker")


@held(Kind.RUN, "runs.release", places.of_run)
def release(actor: Actor, run: Run, how: str, *, memory_limit_mb: int | None = None, now: datetime) -> Run:
    """Plan a new run in place of one that was quarantined, of the task's current version with its parameters.

    `how` is a Release; `memory_limit_mb` belongs to `more_memory` and is by default twice what the run had. Raises
    WrongState when the run is not in quarantine or a run in its place is under way, InvalidInput where it is not said
    how much more memory is meant.
    """
    require(actor, Verb.RUN, run.task.project_id)
    memory = _memory(run, how, memory_limit_mb)
    require_taking_runs(run.task, now)
    with transaction.atomic():
        # Of two that ask at once, the second sees the new run of the first.
        locked = get_visible(Run.objects.select_for_update(no_key=True), run.pk)
        if locked.state != RunState.QUARANTINED:
            raise WrongState(
                _("The run is %(state)s, not in quarantine.") % {"state": locked.state}, state=locked.state
            )
        _refuse_second(run)
        firing = Firing(
            run.task,
            RunType.RERUN,
            now,
            nominal_at=run.nominal_at,
            params=run.params,
            rerun_of_id=run.pk,
            memory_limit_mb=memory,
            alone=how == Release.ALONE,
        )
        (id,) = plan_runs([firing], now=now, actor=actor.name).run_ids
        assert id is not None
        audit.append(actor, "release", run, now=now, after={"run": id, "how": how, "memory_limit_mb": memory})
        nudge()
    return Run.objects.select_related("task", "version").get(pk=id)


def more_memory(run: Run) -> int | None:
    """The limit in MB that is offered for a release with more memory; None where the run had none."""
    had = run.memory_limit_mb or run.version.memory_limit_mb
    return min(had * TIMES_MEMORY, RUN_LIMITS["memory_limit_mb"][1]) if had else None


def _memory(run: Run, how: str, given: int | None) -> int | None:
    if how not in Release.values:
        raise InvalidInput(how=_("Say one of: %(names)s.") % {"names": ", ".join(Release.values)})
    if how != Release.MORE_MEMORY:
        if given is not None:
            raise InvalidInput(memory_limit_mb=_("This belongs to a release with more memory."))
        return run.memory_limit_mb
    wanted = more_memory(run) if given is None else given
    if wanted is None:
        raise InvalidInput(memory_limit_mb=_("The task has no memory limit that could be raised: say how much."))
    least, most = RUN_LIMITS["memory_limit_mb"]
    if not least <= wanted <= most:
        raise InvalidInput(memory_limit_mb=_("Give %(least)d to %(most)d.") % {"least": least, "most": most})
    return wanted


def _refuse_second(run: Run) -> None:
    others = Run.objects.filter(task=run.task_id, pk__gt=run.pk, rerun_of=run).exclude(state__in=TERMINAL)
    other = others.values_list("pk", flat=True).first()
    if other is not None:
        raise WrongState(_("Run #%(id)d is under way in its place.") % {"id": other})
