"""The Celery application: it carries our consumer, without results, retries or tasks. The broker is a doorbell."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_site.settings")

from django.conf import settings

app = Celery("scheduler")
app.conf.update(
    broker_url=settings.SCHEDULER_BROKER_URL,
    broker_heartbeat=10,
    broker_connection_timeout=5,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_pool_limit=4,
    broker_channel_error_retry=True,
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
)
