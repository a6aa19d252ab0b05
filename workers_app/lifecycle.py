"""A worker's life: register, beat, watch its runs, drain, sign off. Hung into Celery as a bootstep."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from celery import bootsteps
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import close_old_connections, connection

from access_app import runtime
from tasks_app.models import Pool
from workers_app import folders, hosts, messages, ownership, remains
from workers_app.doorbell import Message, Publisher
from workers_app.execution import Execution
from workers_app.fencing import Notices
from workers_app.jobs import Control
from workers_app.limits import raise_file_limit
from workers_app.load import Gauge
from workers_app.messages import Pair, queue_name, worker_address
from workers_app.models import WorkerState
from workers_app.orders import Orders
from workers_app.ownership import LeaseLost
from workers_app.reaper import reaper
from workers_app.runtime_settings import DRAIN_SECONDS, KILL_GRACE_SECONDS
from workers_app.strays import end_strays

log = structlog.get_logger("worker")
WATCH_SECONDS = 1.0
OUTPUT_SECONDS = 0.5
PULSE_SECONDS = 1.0
AGAIN_SECONDS = 1.0
SWEEP_SECONDS = 5.0
STRAY_SECONDS = 5.0
DOUBT_LOOK_SECONDS = 0.2
NOTICE_SECONDS = 1.0
_node: Node | None = None


class Node:
    """This worker process: its row, its execution, its threads."""

    def __init__(self, *, pool: Pool, slots: int, labels: dict[str, str], name: str = "") -> None:
        self.id = uuid.uuid4()
        self.pool, self.slots, self._labels = pool, slots, labels
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{self.id.hex[:6]}"
        self._publisher = Publisher()
        self._publisher_lock = threading.Lock()
        self.execution = Execution(
            worker_id=self.id, actor=f"worker {self.name}", ring=self.ring, holds_lease=self._holds_lease
        )
        self.orders = Orders(self.execution)
        self._gauge = Gauge()
        self._notices = Notices(self.id)
        self._lease_end = 0.0
        # Runs that are ours by the database and not under way here, with the time at which that was first seen.
        self._strays: dict[Pair, float] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Register, then beat, watch and write output on threads of their own."""
        raise_file_limit()
        reaper.start(str(self.id), _longest_silence(), remains.own_folder(str(self.id)))
        self._lease_end = time.monotonic() + settings.SCHEDULER_LEASE_SECONDS
        ownership.register(
            id=self.id,
            pool=self.pool,
            slots=self.slots,
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            labels=self._labels,
        )
        self._every(settings.SCHEDULER_HEARTBEAT_SECONDS, "beat", self.beat)
        self._every(WATCH_SECONDS, "watch", self.watch)
        self._every(OUTPUT_SECONDS, "output", self.execution.write_output)
        self._every(PULSE_SECONDS, "pulse", self.pulse)
        self._every(SWEEP_SECONDS, "sweep", self._sweep)
        self._every(DOUBT_LOOK_SECONDS, "doubt", self.let_go_in_doubt)
        self._every(NOTICE_SECONDS, "notices", self.hear_of_fencing)
        remains.collect()

    def execute(self, pairs: list[Pair], *, queue: str | None = None) -> None:
        """Execute an envelope that came through the queue; a worker that drains hands it back there unopened."""
        own = worker_address(self.id)
        self.execution.execute(pairs, own if queue == queue_name(own) else self.pool.name)

    def beat(self) -> None:
        """Renew the lease, tell the load and do what is asked through the row. Raises LeaseLost when the lease is not
        ours to renew any more."""
        # Before the question: the lease that we believe in must not end after the one that others see.
        asked_at = time.monotonic()
        load = self._gauge.read(len(self.execution.active))
        state = ownership.renew(self.id, load, messages_dropped=messages.dropped.value)
        self._lease_end = asked_at + settings.SCHEDULER_LEASE_SECONDS
        self.orders.obey(state)

    def pulse(self) -> None:
        """Tell the reaper that this worker lives. Raises LeaseLost when that was so long in coming that it has ended
        all runs: the others will give them away when the lease is over."""
        if reaper.gave_up:
            raise LeaseLost
        reaper.beat()

    def watch(self) -> None:
        """Learn the runtime settings; end what was cancelled, and what is not ours any more; leave when drained."""
        runtime.refresh()
        mine = dict(self.execution.active)
        ends, own = ownership.look(self.id, {(run_id, active.job.attempt) for run_id, active in mine.items()})
        for (run_id, _attempt), why in ends.items():
            mine[run_id].control.end(why)
        self._look_for_strays(own)
        self.orders.leave_when_idle()

    def _look_for_strays(self, running: set[Pair]) -> None:
        """Hand back what the database has held for ours for some seconds although it is not under way here."""
        now = time.monotonic()
        active = {(run_id, active.job.attempt) for run_id, active in dict(self.execution.active).items()}
        self._strays = {pair: self._strays.get(pair, now) for pair in running - active}
        if overdue := sorted(pair for pair, since in self._strays.items() if now - since >= STRAY_SECONDS):
            self.execution.hand_back(overdue)

    def _sweep(self) -> None:
        end_strays(lambda: {*self.execution.origins(), *hosts.pool.origins()})
        remains.collect()

    def _holds_lease(self) -> bool:
        """A worker that was frozen must not take up a run before it has learnt what became of its lease."""
        return time.monotonic() < self._lease_end and not reaper.gave_up

    def let_go_in_doubt(self) -> None:
        """End what others are about to begin again: the lease is over in a moment, and whether the database is away
        from all or from us alone cannot be known here. Runs that nobody would begin again outlast the outage."""
        if time.monotonic() < self._lease_end - _doubt_seconds():
            return
        for active in list(self.execution.active.values()):
            if active.job.retry_on_lost and active.control.why != Control.LOST:
                log.warning("ending a run before its lease is over", run=active.job.run_id, attempt=active.job.attempt)
                active.control.end(Control.LOST)

    def hear_of_fencing(self) -> None:
        """Ask the broker, once the lease is over and the database does not answer, whether this worker is held for
        dead. Raises LeaseLost when it is: then the database is away from us alone."""
        if time.monotonic() < self._lease_end:
            self._notices.close()
        elif self._notices.told():
            raise LeaseLost

    def drain(self, seconds: float) -> None:
        """Take nothing new; let runs end for `seconds`, then end them and hand them back; sign off."""
        self.orders.stand_down()
        self._set_state(WorkerState.DRAINING)
        self.execution.stop_claiming()
        log.info("draining", runs=len(self.execution.active), seconds=seconds)
        if not self._wait_idle(seconds):
            log.warning("ending what did not end", runs=sorted(self.execution.active))
            self.execution.end_all(Control.STOPPING)
            self._wait_idle(KILL_GRACE_SECONDS.value + 5)
        self._stop.set()
        self.execution.close()
        for thread in self._threads:
            thread.join(timeout=5)
        self._set_state(WorkerState.OFFLINE)
        hosts.pool.close()
        end_strays(tuple)
        folders.folder.close()
        reaper.close()
        with self._publisher_lock:
            self._publisher.close()

    def _wait_idle(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.execution.active and time.monotonic() < end:
            time.sleep(0.05)
        return not self.execution.active

    def _set_state(self, state: WorkerState) -> None:
        try:
            ownership.enter(self.id, state, messages_dropped=messages.dropped.value)
        except DatabaseFault as error:
            log.warning("could not record the worker's state", state=state, error=str(error).strip())

    def ring(self, batch: list[Message]) -> None:
        """Announce runs that this worker does not take."""
        with self._publisher_lock:
            self._publisher.publish(batch)

    def _every(self, seconds: float, name: str, step: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._loop, args=(seconds, step), name=f"worker-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _loop(self, seconds: float, step: Callable[[], None]) -> None:
        pause = seconds
        while not self._stop.wait(pause):
            pause = seconds
            try:
                close_old_connections()
                step()
            except LeaseLost:
                self._die()
            except DatabaseFault as error:
                log.warning("database out of reach", step=step.__name__, error=str(error).strip())
                _drop_connection()
                # The lease is to be renewed as soon as the database is back.
                pause = min(seconds, AGAIN_SECONDS)
            except Exception:
                log.exception("a worker step failed", step=step.__name__)
        _drop_connection()

    def _die(self) -> None:
        """A zombie must not go on: its runs have been given away. End them and the process, at once."""
        log.critical("held for dead: ending all runs and this worker", runs=sorted(self.execution.active))
        # First of all: nothing that ends now is written down as if it were still ours.
        self.execution.refusing = True
        self.execution.end_all(Control.LOST)
        reaper.close()
        os._exit(70)


class LifecycleStep(bootsteps.StartStopStep):
    """Starts the node before the consumer and drains it after: Celery stops its steps in the reverse order."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)

    def start(self, _parent: Any) -> None:
        node().start()
        reaper.hear_crashes()

    def stop(self, _parent: Any) -> None:
        node().drain(DRAIN_SECONDS.value)

    terminate = stop


def node() -> Node:
    """The node of this process. Raises RuntimeError before `become`."""
    if _node is None:
        raise RuntimeError("This process is not a worker; start one with manage.py run_worker.")
    return _node


def become(fresh: Node) -> Node:
    """Make this process the worker `fresh`."""
    global _node  # noqa: PLW0603  (one process is one worker)
    _node = fresh
    return fresh


def _doubt_seconds() -> float:
    """So long before the end of its lease a worker ends what others may begin again; KILL takes a moment."""
    return min(1.0, float(settings.SCHEDULER_LEASE_SECONDS) / 8)


def _longest_silence() -> float:
    """Seconds after which a worker that says nothing counts as frozen: before others can take its lease for ended."""
    lease: float = settings.SCHEDULER_LEASE_SECONDS
    return max(lease - settings.SCHEDULER_HEARTBEAT_SECONDS - PULSE_SECONDS, lease / 2)


def _drop_connection() -> None:
    try:
        connection.close()
    except DatabaseFault as error:
        log.debug("closing the connection failed", error=str(error).strip())
