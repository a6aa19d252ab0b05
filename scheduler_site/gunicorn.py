"""Settings of the web process: `gunicorn scheduler_site.wsgi --config python:scheduler_site.gunicorn`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from scheduler_site.env import env

worker_class = "gthread"
workers = env.int("WEB_CONCURRENCY", 1)
threads = env.int("WEB_THREADS", 8)
timeout = 60
graceful_timeout = 10
keepalive = 5
control_socket_disable = True
# gunicorn touches a file there for its own heartbeat; on a disk that stalls it would kill healthy workers.
_MEMORY_DISK = "/dev/shm"  # noqa: S108  (nothing of ours is kept there)
worker_tmp_dir = _MEMORY_DISK if Path(_MEMORY_DISK).is_dir() else None
loglevel = "warning"


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the metrics of a web worker that ended; only where the multi-process registry is in use."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
