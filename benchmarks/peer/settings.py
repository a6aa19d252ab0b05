"""Django settings of the peer: the same database server and driver, nothing of the scheduler installed."""

from scheduler_site.env import database, env

SECRET_KEY = env.str("SCHEDULER_SECRET_KEY")
INSTALLED_APPS = ["benchmarks.peer", "django_celery_beat"]
DATABASES = {"default": database("DATABASE_URL", "")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
