"""manage.py run_worker: one worker of a pool."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import structlog
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_ready
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from access_app import runtime
from tasks_app.models import Pool
from workers_app import brokers, hosts, lifecycle, messages
from workers_app.listening import QueueListening
from workers_app.naming import WORKER_NAME, is_label

log = structlog.get_logger("worker")


class Command(BaseCommand):
    help = "Executes runs of one pool. SIGTERM drains: running runs may end, then they are ended and handed back."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--pool", default="default", help="the pool whose runs it takes (default: %(default)s)")
        parser.add_argument("--concurrency", type=int, default=8, help="runs at once (default: %(default)s)")
        parser.add_argument("--name", default="", help="a name that lasts beyond a restart (default: a new one)")
        parser.add_argument(
            "--label",
            action="append",
            default=[],
            metavar="NAME[=VALUE]",
            help="may be repeated; without a value it is true",
        )
        parser.add_argument("--warm", type=int, default=1, help="processes for callables started ahead")
        parser.add_argument("--with-dispatcher", action="store_true", help="run a dispatcher in the same process")

    def handle(self, *args: Any, **options: Any) -> None:
        runtime.refresh()
        pool = Pool.objects.filter(name=options["pool"]).first()
        if pool is None:
            raise CommandError(f"There is no pool {options['pool']!r}; create it through the API or in the admin.")
        if options["concurrency"] < 1:
            raise CommandError("--concurrency must be 1 or more.")
        if options["name"] and not WORKER_NAME.fullmatch(options["name"]):
            raise CommandError("--name has 1 to 200 letters, digits, dots, dashes and underscores.")
        node = lifecycle.Node(
            pool=pool, slots=options["concurrency"], labels=_labels(options["label"]), name=options["name"]
        )
        lifecycle.become(node)
        _consume(node, dispatcher=options["with_dispatcher"], warm=options["warm"])


def _consume(node: lifecycle.Node, *, dispatcher: bool, warm: int) -> None:
    from scheduler_site.celery import app

    setup_logging.connect(_keep_our_logging)
    # What it warns of is pickle; our envelopes are signed JSON.
    warnings.filterwarnings("ignore", category=SecurityWarning)

    # The pool's, and one for what goes to this worker alone.
    queues = [messages.pool_queue(address) for address in (node.pool.name, messages.worker_address(node.id))]
    app.conf.task_queues = queues
    app.conf.task_default_queue = queues[0].name
    app.steps["worker"].add(lifecycle.LifecycleStep)
    worker_ready.connect(
        lambda **_: log.info("ready", name=node.name, pool=node.pool.name, slots=node.slots), weak=False
    )
    threading.Thread(target=hosts.pool.warm, args=(warm,), name="worker-warm", daemon=True).start()
    worker = app.Worker(
        # A fresh name per start: brokers bind control queues to it, and a dead namesake would lock us out.
        hostname=f"worker@{node.id}",
        pool="threads",
        concurrency=node.slots,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        task_events=False,
        # Every broker but the in-process one is waited for on sockets. From that one, too, people may move to another
        # while we run: then we go on without an event loop.
        use_eventloop=brokers.scheme_of(settings.SCHEDULER_BROKER_URL) != brokers.MEMORY,
    )
    node.orders.listening = QueueListening(worker, [queue.name for queue in queues])
    with _dispatcher_beside(dispatcher):
        worker.start()
    raise SystemExit(worker.exitcode or 0)


def _keep_our_logging(**_: Any) -> None:
    """A receiver of this signal is what tells Celery to leave logging alone."""


class _dispatcher_beside:  # noqa: N801  (reads as a verb where it is used)
    """A dispatcher on a thread of this process, for as long as the block lasts; nothing when not wanted."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def __enter__(self) -> None:
        if not self._wanted:
            return
        # Late and by name: the dispatcher's app lies above this one; only the all-in-one process joins the two.
        from django.utils.module_loading import import_string

        self._dispatcher = import_string("dispatcher_app.loop.Dispatcher")()
        name = self._dispatcher.name
        ready = lambda: log.info("ready", name=name)  # noqa: E731
        self._thread = threading.Thread(target=self._dispatcher.run, args=(ready,), name="dispatcher", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            self._dispatcher.stop()
            self._thread.join(timeout=10)


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not is_label(name, value):
            raise CommandError(f"--label {pair!r} must look like NAME=VALUE, or NAME; a name begins with a letter.")
        labels[name] = value if equals else "true"
    return labels
