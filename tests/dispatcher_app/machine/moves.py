"""What one step may have made of the runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tasks_app.states import LIVE, TERMINAL
from tests.dispatcher_app.machine.limits import Limits
from tests.dispatcher_app.machine.snapshot import May, Runs, Seen


class Moves:
    """The changes of one step."""

    def __init__(self, before: Runs, after: Runs) -> None:
        self.before, self.after = before, after
        self.moved = [
            (old, new)
            for id, new in after.items()
            if (old := before.get(id)) is not None and (old.state, old.attempt) != (new.state, new.attempt)
        ]
        self.new = [run for id, run in after.items() if id not in before]
        self.gone = before.keys() - after.keys()

    def check(self, may: May, *, may_plan: bool, may_delete: Collection[int]) -> None:
        for old, new in self.moved:
            step = f"#{old.id} {old.state} {old.attempt} -> {new.state} {new.attempt}"
            assert old.state not in TERMINAL, f"I4: {step}"
            assert _may_count(old, new), f"I3: {step}"
            assert may(old, new), f"not by this step: {step}"
        assert may_plan or not self.new, f"not by this step: new runs {self.new}"
        for new in self.new:
            if new.state != "waiting":
                assert may(_as_planned(new), new), f"not by this step: a new run is {new}"
        foreign = [self.before[id] for id in self.gone if self.before[id].task_id not in may_delete]
        assert not foreign, f"runs are gone: {foreign}"
        self._check_limits()

    def _check_limits(self) -> None:
        old_ids = {id for id, run in self.before.items() if run.state in LIVE}
        live = [run for run in self.after.values() if run.state in LIVE]
        if fresh := [run for run in live if run.id not in old_ids]:
            Limits(live).check(fresh)


def _may_count(old: Seen, new: Seen) -> bool:
    """The attempt counts up where one is over and another is to come; it need not come in the end."""
    if old.state == "running" and new.state == "waiting":
        return new.attempt == old.attempt + 1
    given_up = (old.state, new.state) == ("running", "cancelled") and new.backfill_id is not None
    return new.attempt - old.attempt in ((0, 1) if given_up else (0,))


def _as_planned(run: Seen) -> Seen:
    return replace(run, state="waiting", attempt=1, upstream_ready=False)
