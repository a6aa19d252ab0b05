"""The Celery application: early acknowledgement, no results, no retries of Celery's own. The broker is a doorbell."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_site.settings")

from django.conf import settings


def _transport_options(url: str) -> dict[str, float | bool]:
    if url.startswith("redis"):
        return {"socket_timeout": 15, "socket_connect_timeout": 5, "socket_keepalive": True}
    # The in-process broker is looked at from time to time; kombu's own interval of a second is felt by whoever waits.
    return {"polling_interval": 0.05} if url.startswith("memory") else {}


app = Celery("scheduler")
app.conf.update(
    broker_url=settings.SCHEDULER_BROKER_URL,
    broker_heartbeat=10,
    broker_connection_timeout=5,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_pool_limit=4,
    broker_transport_options=_transport_options(settings.SCHEDULER_BROKER_URL),
    result_backend=None,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=False,
    task_publish_retry=False,
    task_default_queue=f"{settings.SCHEDULER_QUEUE_PREFIX}.default",
    task_default_delivery_mode="persistent",
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_consumer="workers_app.consumer:PatientConsumer",
    worker_enable_prefetch_count_reduction=False,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    enable_utc=True,
    timezone="UTC",
    imports=["workers_app.celery_tasks"],
)
