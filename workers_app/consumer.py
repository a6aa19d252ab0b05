"""Celery's consumer with habits of ours: it takes signed envelopes alone, one message ahead of its slots, is back
within seconds of the broker, and follows where the broker moves."""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import partial
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from django.db import close_old_connections
from kombu import compression

from workers_app import brokers, lifecycle, messages
from workers_app.carrying import carry_over
from workers_app.messages import Envelope
from workers_app.runtime_settings import BROKER_URL

log = structlog.get_logger("worker")
LONGEST_PAUSE_SECONDS = 3
# What Redis does not answer within this long, or RabbitMQ take, shows a dead link.
ANSWER_SECONDS = 15.0
LOOK_SECONDS = 1.0
# kombu unpacks a compressed message before anybody can look at it; a few bytes would become gigabytes.
compression._decoders.clear()


class BrokerChanged(Exception):
    """The runtime setting names another broker."""


class PatientConsumer(Consumer):
    """Celery's own would take a message for every slot ahead of the ones running, and keep them behind long runs while
    other workers idle; and after an outage it would wait half a minute before it looks for the broker again.

    Of Celery's messages it would believe the headers too, which nobody has signed: what to run, when, until when and
    what next. Here the envelope goes from the signature check straight to a slot.
    """

    class Blueprint(Consumer.Blueprint):
        # For queues of type quorum Celery would declare the thirty queues of its own delayed delivery.
        default_steps = [step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A message is acknowledged when a slot takes it up, so all slots still fill; only one can wait for a slot.
        self.initial_prefetch_count = 1
        # Of every broker: the next connection may lead to another kind than this one.
        self.connection_errors, self.channel_errors = (BrokerChanged, *brokers.errors()), ()
        self._url = BROKER_URL.value
        self._acknowledging = threading.Lock()

    def create_task_handler(self, *_: Any, **__: Any) -> Any:
        """What is called for each message."""
        return self.on_envelope

    def on_envelope(self, message: Any) -> None:
        """Hand an envelope to a slot; drop and count what is none."""
        try:
            envelope = messages.open_message(message, self._queues())
        except messages.BadEnvelope as error:
            self.on_decode_error(message, error)
            return
        acknowledge = partial(self.call_soon_ack, self._acknowledge, message)
        self.pool.apply_async(
            execute, (envelope,), accept_callback=lambda *_: acknowledge(), callback=lambda _answer: None
        )

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drop the message and count it."""
        messages.dropped.inc()
        log.warning("message dropped", error=str(exc))
        self._acknowledge(message)

    def connect(self) -> Any:
        """Connect to the broker that the runtime setting names, and consume from there."""
        if self.hub:
            # What the connection before had hung in would go on reading from a broker that we have left.
            self.hub.on_tick.clear()
        return super().connect()

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """The connection to consume from, established."""
        left, self._url = self._url, BROKER_URL.value
        if left != self._url:
            carry_over(left, self._queues(), lifecycle.node().ring)
        return self.ensure_connected(brokers.connection(self._url, seconds=ANSWER_SECONDS, heartbeat=heartbeat or 0))

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, trying for as long as it takes."""
        return conn.ensure_connection(
            _report,
            max_retries=None,
            interval_start=0.5,
            interval_step=0.5,
            interval_max=LONGEST_PAUSE_SECONDS,
            callback=self._between_tries,
        )

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        hub.on_tick.add(self._follow)
        # Turns the loop, which would else sleep until the next message.
        hub.call_repeatedly(LOOK_SECONDS, _nothing)

    def perform_pending_operations(self) -> None:
        """What Celery calls at each turn where there is no event loop."""
        self._follow()
        super().perform_pending_operations()

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        _tell(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        _tell(exc)
        super().on_connection_error_after_connected(exc)

    def _between_tries(self) -> None:
        maybe_shutdown()
        self._follow()

    def _follow(self) -> None:
        if BROKER_URL.value != self._url:
            raise BrokerChanged

    def _acknowledge(self, message: Any) -> None:
        """Without an event loop this comes from many threads, and a connection writes for one at a time."""
        with self._acknowledging:
            try:
                message.ack()
            except Exception as error:  # noqa: BLE001  (the link is gone, each transport says it in its own way)
                # It will be delivered once more, which is harmless.
                log.debug("could not acknowledge", error=str(error) or type(error).__name__)

    def _queues(self) -> Collection[str]:
        """Those that are left alone for now too: what had been delivered from them is handed back, not dropped."""
        known: Collection[str] = self.app.amqp.queues
        return known


def execute(envelope: Envelope) -> None:
    """Execute the runs of an envelope; what a slot does."""
    # The thread may have kept a connection since its last envelope, and the server closed it.
    close_old_connections()
    try:
        lifecycle.node().execute(envelope.pairs, queue=envelope.queue)
    except Exception:
        log.exception("envelope failed", runs=[run for run, _attempt in envelope.pairs])


def _nothing() -> None:
    """A reason for the event loop to turn."""


def _tell(error: Exception) -> None:
    if isinstance(error, BrokerChanged):
        log.info("following to another broker", broker=brokers.masked(BROKER_URL.value))
    else:
        log.warning("broker lost", error=str(error) or type(error).__name__)


def _report(error: BaseException, pause: float) -> None:
    log.warning("broker out of reach", error=str(error) or type(error).__name__, again_in=pause)
