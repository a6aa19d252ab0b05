"""The usual set-up to measure beside: Celery's prefork pool and one ORM row per run."""
