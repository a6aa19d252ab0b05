"""The dispatcher: fire, release, publish, rescue; then wait for a nudge or the next instant."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import close_old_connections, connection

from access_app import audit_chain, runtime
from access_app.outages import is_outage
from dispatcher_app import rescue
from dispatcher_app.acceptance import BATCH as PERIODS_BATCH
from dispatcher_app.acceptance import accept_ended, accept_periods
from dispatcher_app.expiry import expire
from dispatcher_app.firing import fire_due, next_due_at, rearm
from dispatcher_app.lanes import Cursor
from dispatcher_app.models import Dispatcher as DispatcherRow
from dispatcher_app.noting import note_ended
from dispatcher_app.publish import for_broker, packed
from dispatcher_app.rates import forget_starts
from dispatcher_app.release import BATCH, release_ready
from tasks_app import rowset
from tasks_app.services.backfills import cancel_leftovers
from tasks_app.services.pauses import resume_due
from tasks_app.wakeup import Waiter
from workers_app import fencing
from workers_app.doorbell import Publisher

log = structlog.get_logger(__name__)
RESCUE_SECONDS = 1.0
RENEWAL_SECONDS = 2.0
FORGET_STARTS_SECONDS = 60.0
BEAT_SECONDS = 2.0
SLOW_PERIODS_SECONDS = 0.2
LONGEST_PAUSE_AFTER_ERROR = 2.0
FORGET_AFTER = timedelta(days=1)


@dataclass(slots=True)
class TickReport:
    """What one tick moved: schedules answered, runs made of them, runs whose ended attempts were told to breakers and
    tasks, periods settled, ended runs told to their downstream runs, runs past their start deadline, runs queued, runs
    published, runs recovered from dead workers, runs published again."""

    schedules: int = 0
    fired: int = 0
    noted: int = 0
    periods: int = 0
    accepted: int = 0
    expired: int = 0
    released: int = 0
    published: int = 0
    recovered: int = 0
    republished: int = 0
    full: bool = False
    seconds: float = 0.0

    @property
    def moved(self) -> bool:
        return any(getattr(self, name) for name in self.__slots__ if name not in ("full", "seconds"))


class Dispatcher:
    """One of any number of dispatchers. It holds no state that another would need to go on."""

    def __init__(self, *, publisher: Publisher | None = None) -> None:
        self.id = uuid.uuid4()
        self.name = f"dispatcher {socket.gethostname()}-{os.getpid()}-{self.id.hex[:6]}"
        self.publisher = publisher or Publisher()
        self._waiter = Waiter()
        self._stop = threading.Event()
        self._lanes = Cursor()
        self._rescue_at = self._beat_at = self._periods_at = self._starts_at = 0.0
        self._reached_at = -math.inf
        self._started_at = datetime.now(UTC)

    def tick(self, now: datetime, *, rescue_too: bool = True) -> TickReport:
        """Do the steps once. What one step cannot do does not keep the others from their work; the first error is
        raised at the end. A database that is away ends the tick at once. Whatever committed before stays done."""
        report, started = TickReport(), time.monotonic()
        fault: Exception | None = None
        steps = (self._fire, self._note, self._release)
        for step in (*steps, self._rescue) if rescue_too else steps:
            try:
                step(now, report)
            except Exception as error:
                if is_outage(error):
                    raise
                # Raised below, when the other steps have had their turn.
                if fault is not None:
                    log.error("another step failed", step=step.__name__, error=str(error).strip())
                fault = fault or error
        if fault is not None:
            raise fault
        report.seconds = time.monotonic() - started
        return report

    def _fire(self, now: datetime, report: TickReport) -> None:
        rearm(now)
        fired = fire_due(now, actor=self.name)
        report.schedules, report.fired = fired.schedules, fired.runs
        report.full |= fired.schedules >= BATCH

    def _note(self, now: datetime, report: TickReport) -> None:
        # Before the release: an open breaker lets nothing through.
        while (noted := note_ended(now)) > 0:
            report.noted += noted

    def _release(self, now: datetime, report: TickReport) -> None:
        report.periods = self._settle_periods(now)
        report.full |= report.periods >= PERIODS_BATCH
        while (told := accept_ended(now, actor=self.name)) > 0:
            report.accepted += told
        report.expired = expire(now, actor=self.name)
        released = release_ready(now, actor=self.name, cursor=self._lanes)
        report.released = len(released)
        report.published = self.publisher.publish(packed(for_broker(released)))
        there_may_be_more = len(released) >= BATCH or (bool(released) and self._lanes.after is not None)
        report.full |= there_may_be_more or report.expired >= BATCH

    def _settle_periods(self, now: datetime) -> int:
        """Runs may wait for periods by the hundred thousand, and each is looked up: where that takes long, it takes no
        more than a twentieth of the time."""
        started = time.monotonic()
        if started < self._periods_at:
            return 0
        settled = accept_periods(now, actor=self.name)
        if (seconds := time.monotonic() - started) > SLOW_PERIODS_SECONDS:
            self._periods_at = started + 20 * seconds
        return settled

    def _rescue(self, now: datetime, report: TickReport) -> None:
        if (clock := time.monotonic()) >= self._starts_at:
            self._starts_at = clock + FORGET_STARTS_SECONDS
            forget_starts(now)
        audit_chain.seal(now)
        resume_due(now)
        rescue.expire_leases(rowset.database_now())
        orphans = rescue.recover_orphans(now, actor=self.name)
        report.recovered = len(orphans)
        if orphans:
            taken = ((one.worker_id, (one.id, one.attempt)) for one in orphans if one.worker_id is not None)
            self.publisher.publish(fencing.notices(taken))
        cancel_leftovers(now, actor=self.name)
        report.republished = self._publish_again(now)

    def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Tick until stopped. An error is logged and the next tick tries again: no loop dies of one bad tick."""
        failures = 0
        while not self._stop.is_set():
            try:
                report = self._guarded_tick()
                if on_ready is not None:
                    on_ready()
                    on_ready = None
                failures = 0
                if not report.full and not report.recovered:
                    self._waiter.wait(self._pause())
            except Exception as error:  # noqa: BLE001  (no loop dies of one bad tick; it is logged)
                failures += 1
                self._after_error(error, failures)
        self._leave()

    def stop(self) -> None:
        """End `run` after the tick under way; may be called from a signal handler or another thread."""
        self._stop.set()
        self._waiter.stop()

    def _guarded_tick(self) -> TickReport:
        close_old_connections()
        runtime.refresh()
        clock = time.monotonic()
        if clock - self._reached_at > settings.SCHEDULER_LEASE_SECONDS / 2:
            # We have seen nothing for a while, as after an outage of the database: then the workers could not renew
            # their leases either, and get the time to do so before anybody judges them.
            self._rescue_at = clock + settings.SCHEDULER_HEARTBEAT_SECONDS + RENEWAL_SECONDS
        with_rescue = clock >= self._rescue_at
        if with_rescue:
            self._rescue_at = clock + RESCUE_SECONDS
        report = self.tick(datetime.now(UTC), rescue_too=with_rescue)
        self._reached_at = time.monotonic()
        if clock >= self._beat_at:
            self._beat_at = clock + BEAT_SECONDS
            self._beat(report)
        if report.moved:
            log.info(
                "tick",
                **{k: v for k in TickReport.__slots__ if k not in ("full", "seconds") and (v := getattr(report, k))},
                ms=round(report.seconds * 1000, 1),
            )
        return report

    def _publish_again(self, now: datetime) -> int:
        # While the broker is away the messages wait in the publisher; looking for lost ones would only double them.
        if self.publisher.unsent:
            return 0
        lost = rescue.find_unclaimed(now, is_empty=self.publisher.is_empty, actor=self.name)
        if lost:
            log.warning("publishing again what nobody claimed", runs=len(lost))
            self.publisher.publish(packed(for_broker(lost)))
        return len(lost)

    def _pause(self) -> float:
        """Seconds to wait: to the next instant of a schedule, at most one tick interval."""
        at = next_due_at()
        most: float = settings.SCHEDULER_TICK_SECONDS
        if at is None:
            return most
        return min(max((at - datetime.now(UTC)).total_seconds(), 0.0), most)

    def _beat(self, report: TickReport) -> None:
        now = rowset.database_now()
        DispatcherRow.objects.update_or_create(
            pk=self.id,
            defaults={"beat_at": now, "tick_ms": report.seconds * 1000},
            create_defaults={
                "name": self.name,
                "started_at": self._started_at,
                "beat_at": now,
                "tick_ms": report.seconds * 1000,
            },
        )
        DispatcherRow.objects.filter(beat_at__lt=now - FORGET_AFTER).delete()

    def _after_error(self, error: Exception, failures: int) -> None:
        log.error("tick failed", error=str(error).strip(), exc_info=not isinstance(error, DatabaseFault))
        try:
            connection.close()
        except Exception as fault:  # noqa: BLE001  (closing a broken connection may fail in any way)
            log.debug("closing the connection failed", error=str(fault))
        self._stop.wait(min(0.1 * 2**failures, LONGEST_PAUSE_AFTER_ERROR))

    def _leave(self) -> None:
        self._waiter.close()
        self.publisher.close()
        try:
            DispatcherRow.objects.filter(pk=self.id).delete()
        except DatabaseFault as error:
            log.debug("could not sign off", error=str(error).strip())
