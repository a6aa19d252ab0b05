"""The life of an envelope in a worker: claim -> prepare -> execute -> finish, a pipeline of named steps."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import structlog
from django.db import Error as DatabaseFault
from django.db import transaction

from access_app.masking import known
from tasks_app import transitions
from tasks_app.models import Run, TaskVersion
from tasks_app.moves import Outcome
from tasks_app.states import Reason, RunState
from workers_app import hosts
from workers_app.archive import Archive
from workers_app.batcher import Batcher, Closed
from workers_app.claiming import specs_of, taken_up
from workers_app.executors import implementation
from workers_app.finishing import Finish, Results
from workers_app.gathering import Entry, Gathered
from workers_app.jobs import Active, Control, Result
from workers_app.messages import Pair
from workers_app.outcomes import outcome_of
from workers_app.output import OutputSink
from workers_app.packs import Pack
from workers_app.reaper import reaper
from workers_app.solitude import Solitude

log = structlog.get_logger(__name__)

# A callable is short when it takes less than this on average; only short ones are claimed by the pack.
SHORT_SECONDS = 0.02
CHUNK = 200
LEASE_LOOK_SECONDS = 0.2
_REMEMBERED_VERSIONS = 5000


class Execution:
    """Executes envelopes for one worker identity. Thread-safe: one thread an envelope."""

    def __init__(
        self, *, worker_id: Any, actor: str, ring: Any, holds_lease: Callable[[], bool] = lambda: True
    ) -> None:
        self.active: dict[int, Active] = {}
        self.refusing = False
        self._holds_lease = holds_lease
        self._worker_id, self._actor, self._ring = worker_id, actor, ring
        self._specs: OrderedDict[int, TaskVersion] = OrderedDict()
        self._typical: dict[int, float] = {}
        self._claims: Batcher[list[Pair], tuple[list[Active], list[Pair]]] = Batcher(
            "claims", self._claim, limit=500, patience=10
        )
        self._results = Results(worker_id, actor)
        self._solitude = Solitude(self.active)
        self._archive = Archive()

    def execute(self, pairs: list[Pair], pool: str) -> None:
        """Execute what is still ours to execute of an envelope of the pool's queue."""
        while pairs and not self.refusing:
            if not self._holds_lease() or self._solitude.is_wanted:
                # Not handed back: with the database away from every worker, messages would only go round and round.
                time.sleep(LEASE_LOOK_SECONDS)
                continue
            try:
                claimed, rest = self._claims.ask(pairs)
            except Closed:
                break
            except DatabaseFault as error:
                # Still queued: the dispatchers' sweep announces them again.
                log.error("could not claim", runs=len(pairs), error=str(error).strip())
                return
            pairs = rest
            self._execute_claimed(claimed)
            if claimed and not self._is_short(claimed[0].job.version_id):
                break
        if pairs:
            # The rest of a pack must not wait behind a long run, nor end with this worker. In halves: those of long
            # runs spread over the workers like a tree, those of runs that turn out to be short are still packs.
            half = (len(pairs) + 1) // 2
            self._ring([(pool, part) for part in (pairs[:half], pairs[half:]) if part])

    def write_output(self) -> None:
        """Pass the lines that came since the last call on to the database; call twice a second or so."""
        for active in list(self.active.values()):
            self._results.write_progress(active)

    def stop_claiming(self) -> None:
        """Take nothing new. When this returns, what had been claimed stands in `active`."""
        self.refusing = True
        self._claims.close()

    def origins(self) -> set[Pair]:
        """The attempts that are under way."""
        return {active.job.origin for active in list(self.active.values())}

    def end_all(self, why: str) -> None:
        for active in list(self.active.values()):
            active.control.end(why)

    def close(self) -> None:
        self.stop_claiming()
        self._results.close()
        self._archive.close()

    def hand_back(self, strays: Sequence[Pair]) -> None:
        """Give away runs that are ours by the database but are not under way here: the answer to their claim got lost
        with the connection, or they ended when the lease was in doubt."""
        log.warning("handing back runs that are not under way", runs=[run for run, _attempt in strays])
        now, detail = datetime.now(UTC), "Its worker lost the connection to the database."
        outcomes = [
            Outcome(run, attempt, RunState.WAITING, Reason.INTERNAL, detail, retry_at=now) for run, attempt in strays
        ]
        self._results.submit(Finish(outcomes))

    def _may_claim(self) -> bool:
        return not self.refusing and self._holds_lease() and not self._solitude.is_wanted

    # --- claim ------------------------------------------------------------------------------------------------------

    def _claim(self, requests: Sequence[list[Pair]]) -> list[tuple[list[Active], list[Pair]]]:
        """Claim each request whole if its version is known to be short, else its first run; answer with the rest."""
        if not self._may_claim():
            return [([], request) for request in requests]
        sizes = self._sizes(requests)
        wanted = [pair for request, size in zip(requests, sizes, strict=True) for pair in request[:size]]
        # One transaction: a claim whose task cannot be read would be ours for ever, and never begun.
        with transaction.atomic():
            now = datetime.now(UTC)
            claimed = transitions.claim(wanted, worker_id=self._worker_id, now=now, actor=self._actor)
            self._load_specs({run.version_id for run in claimed})
            jobs = taken_up(claimed, self._specs, now=now)
        by_pair: dict[Pair, Active] = {}
        for active in jobs:
            by_pair[active.job.run_id, active.job.attempt] = self.active[active.job.run_id] = active
            if active.job.masks is not None:
                known.add(active.job.masks)
            if active.job.alone:
                self._solitude.want(active.job.run_id)
        # popped: the same pair twice in one batch is one run, not two
        return [
            ([by_pair.pop(pair) for pair in request[:size] if pair in by_pair], request[size:])
            for request, size in zip(requests, sizes, strict=True)
        ]

    def _sizes(self, requests: Sequence[list[Pair]]) -> list[int]:
        packs = [request[0][0] for request in requests if len(request) > 1]
        versions = dict(Run.objects.filter(pk__in=packs).values_list("pk", "version_id")) if packs else {}
        return [CHUNK if self._is_short(versions.get(request[0][0], 0)) else 1 for request in requests]

    def _load_specs(self, version_ids: set[int]) -> None:
        missing = version_ids - self._specs.keys()
        if missing:
            self._specs |= specs_of(missing)
            while len(self._specs) > _REMEMBERED_VERSIONS + len(missing):
                self._specs.popitem(last=False)

    # --- execute ----------------------------------------------------------------------------------------------------

    def _execute_claimed(self, claimed: list[Active]) -> None:
        if refused := [active for active in claimed if active.refusal is not None]:
            self._complete([(active, self._sink(active), active.refusal) for active in refused if active.refusal])
            claimed = [active for active in claimed if active.refusal is None]
        alone = [active for active in claimed if active.job.alone]
        self._execute_together([active for active in claimed if not active.job.alone])
        for active in alone:
            with self._solitude.of(active):
                self._execute_together([active])

    def _execute_together(self, claimed: list[Active]) -> None:
        claimed = self._still_ours(claimed)
        if len(claimed) > 1:
            gathered = Gathered(self._complete)
            entries = [(active, self._sink(active)) for active in claimed]
            try:
                Pack(hosts.pool, entries, gathered.add, gathered.flush_aside).run()
            except Exception as error:
                log.exception("pack failed", runs=len(entries))
                gathered.add_missing(entries, _broken(error))
            gathered.flush()
        elif claimed:
            (active,) = claimed
            sink = self._sink(active)
            self._complete([(active, sink, self._execute_one(active, sink))])

    def _still_ours(self, claimed: list[Active]) -> list[Active]:
        """Those that may begin. Frozen since its claim, a worker first has to learn whether its runs were given away
        meanwhile: while its lease is in doubt nothing begins, or it would begin beside the next attempt."""
        while not self._holds_lease() and any(active.control.why is None for active in claimed):
            time.sleep(LEASE_LOOK_SECONDS)
        if lost := [active for active in claimed if active.control.why == Control.LOST]:
            self._complete([(active, self._sink(active), Result(RunState.LOST)) for active in lost])
        return [active for active in claimed if active.control.why != Control.LOST]

    def _execute_one(self, active: Active, sink: OutputSink) -> Result:
        job = active.job
        if active.control.why is not None:
            sink.close()
            return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED, "Ended before it had begun.")
        with structlog.contextvars.bound_contextvars(run=job.run_id, attempt=job.attempt, task=job.task_name):
            try:
                return implementation(job.executor)(job, active.control, sink)
            except Exception as error:
                log.exception("executor failed")
                sink.close()
                return _broken(error)

    def _sink(self, active: Active) -> OutputSink:
        active.sink = OutputSink(active.job.run_id, active.job.attempt, active.job.masks)
        return active.sink

    # --- finish -----------------------------------------------------------------------------------------------------

    def _complete(self, done: list[Entry]) -> None:
        self._learn(done)
        now = datetime.now(UTC)
        if reaper.gave_up:
            for active, _sink, _result in done:
                active.control.end(Control.LOST)
        kept = [entry for entry in done if entry[0].control.why != Control.LOST]
        outcomes = [outcome_of(active, result, now) for active, _sink, result in kept]
        try:
            moved = self._results.record(kept, outcomes) if outcomes else set()
            for active, sink, _result in kept:
                if active.job.run_id in moved:
                    self._archive.add(active.job.run_id, active.job.attempt, sink.size)
            if len(moved) < len(outcomes):
                log.warning("runs were no longer ours at their end", runs=[o.id for o in outcomes if o.id not in moved])
        except Exception as error:  # noqa: BLE001  (whatever it is, these runs are over here)
            log.error("could not record results", runs=[o.id for o in outcomes], error=str(error).strip())
        finally:
            for active, _sink, _result in done:
                # Its next attempt may have been claimed here already, and stand in its place.
                if self.active.get(active.job.run_id) is active:
                    del self.active[active.job.run_id]
                    self._solitude.give_up(active.job.run_id)
                if active.job.masks is not None:
                    known.discard(active.job.masks)
                active.control.close()

    # --- what is known of durations ---------------------------------------------------------------------------------

    def _learn(self, done: list[Entry]) -> None:
        """Packs are of one version. What gets faster is believed sooner: a first call pays for its imports."""
        seconds = [result.busy_seconds for _active, _sink, result in done if result.busy_seconds is not None]
        if seconds:
            version, fresh = done[0][0].job.version_id, fmean(seconds)
            typical = self._typical.get(version, fresh)
            weight = 0.7 if fresh < typical else 0.3
            self._typical[version] = typical + weight * (fresh - typical)

    def _is_short(self, version_id: int) -> bool:
        return self._typical.get(version_id, SHORT_SECONDS) < SHORT_SECONDS


def _broken(error: Exception) -> Result:
    return Result(RunState.FAILED, Reason.INTERNAL, f"{type(error).__name__}: {error}")
