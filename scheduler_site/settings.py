"""The settings; those of sign-in and of the web are in security.py. docs/configuration.md lists every knob of ours."""

from __future__ import annotations

import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from scheduler_site.env import (
    BASE_DIR,
    PRODUCTION,
    choice,
    database,
    env,
    networks,
    own_cluster,
    place,
    positive,
    sql_connections,
)
from scheduler_site.logging import configure_logging
from scheduler_site.security import *  # noqa: F403  (the settings of sign-in and of the web)

# --- Where and who --------------------------------------------------------------------------------------------------
SCHEDULER_ENV: str = "production" if PRODUCTION else "development"
DEBUG = False
SCHEDULER_DATA_DIR = Path(env.str("SCHEDULER_DATA_DIR", str(BASE_DIR / "var"))).resolve()


def _secret_key() -> str:
    """The signing key: given, or (outside production) generated once and kept beside the data."""
    given: str = env.str("SCHEDULER_SECRET_KEY", "")
    if given:
        return given
    if PRODUCTION:
        raise ImproperlyConfigured("SCHEDULER_SECRET_KEY is empty. Set it to at least 50 random characters.")
    path = SCHEDULER_DATA_DIR / "secret_key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"secret_key.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(64))
        try:
            # link() fails when another process was first: exactly one key survives a race of first starts.
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text()


SECRET_KEY = _secret_key()
# Earlier keys that are still believed; what is signed anew is signed with SECRET_KEY.
SECRET_KEY_FALLBACKS: list[str] = env.list("SCHEDULER_SECRET_KEY_FALLBACKS", [])
# The first encrypts what the database may not know, all of them decrypt it.
SCHEDULER_ENCRYPTION_KEYS: list[str] = env.list("SCHEDULER_ENCRYPTION_KEYS", [])
ALLOWED_HOSTS: list[str] = env.list(
    "SCHEDULER_ALLOWED_HOSTS", [] if PRODUCTION else ["127.0.0.1", "localhost", "[::1]"]
)
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("SCHEDULER_ALLOWED_HOSTS is empty. Name the hosts under which people reach the console.")
CSRF_TRUSTED_ORIGINS: list[str] = env.list("SCHEDULER_CSRF_TRUSTED_ORIGINS", [])

# --- Applications ---------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "guardian",
    "axes",
    "corsheaders",
    "django_celery_beat",
    "django_prometheus",
    "csp",
    "access_app",
    "tasks_app",
    "workers_app",
    "dispatcher_app",
    "monitoring_app",
    "console_app",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "monitoring_app.logs.RequestContextMiddleware",
    "access_app.middleware.AddressMiddleware",
    "access_app.middleware.PermissionsPolicyMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "access_app.api.throttles.RateHeadersMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "scheduler_site.urls"
WSGI_APPLICATION = "scheduler_site.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Database and broker --------------------------------------------------------------------------------------------
DATABASES = {"default": database("DATABASE_URL", f"sqlite:///{SCHEDULER_DATA_DIR}/scheduler.sqlite3")}
SCHEDULER_BROKER_URL: str = env.str("CELERY_BROKER_URL", "") or "memory://localhost/"
# Prefixed to every queue name, so that two installations can share one broker.
SCHEDULER_QUEUE_PREFIX: str = env.str("SCHEDULER_QUEUE_PREFIX", "scheduler")
# classic, or quorum where RabbitMQ is a cluster.
SCHEDULER_RABBITMQ_QUEUE_TYPE: str = env.str("SCHEDULER_RABBITMQ_QUEUE_TYPE", "classic")
# For amqps://, rediss:// and rediss-stream://: who vouches for the broker, and what we show it.
SCHEDULER_BROKER_CA_PATH: str = env.str("SCHEDULER_BROKER_CA_PATH", "")
SCHEDULER_BROKER_CERTIFICATE_PATH: str = env.str("SCHEDULER_BROKER_CERTIFICATE_PATH", "")
SCHEDULER_BROKER_KEY_PATH: str = env.str("SCHEDULER_BROKER_KEY_PATH", "")

# --- The scheduler's own clockwork (seconds unless said otherwise) --------------------------------------------------
SCHEDULER_TICK_SECONDS = positive("SCHEDULER_TICK_SECONDS", 1.0)
SCHEDULER_HEARTBEAT_SECONDS = positive("SCHEDULER_HEARTBEAT_SECONDS", 5.0)
SCHEDULER_LEASE_SECONDS = positive("SCHEDULER_LEASE_SECONDS", 15.0)
# A queued run that nobody claimed for this long is published again.
SCHEDULER_SWEEP_SECONDS = positive("SCHEDULER_SWEEP_SECONDS", 5.0)
# How often an agent asks for runs; less often where there are more than fifty of them.
SCHEDULER_AGENT_POLL_SECONDS = positive("SCHEDULER_AGENT_POLL_SECONDS", 1.0)
# How long a stopping worker lets its runs finish before it ends them and hands them back.
SCHEDULER_DRAIN_SECONDS = positive("SCHEDULER_DRAIN_SECONDS", 60.0)
# TERM to KILL for the process group of a cancelled or timed out run.
SCHEDULER_KILL_GRACE_SECONDS = positive("SCHEDULER_KILL_GRACE_SECONDS", 5.0)
SCHEDULER_SCRIPTS_DIR = Path(env.str("SCHEDULER_SCRIPTS_DIR", str(SCHEDULER_DATA_DIR / "scripts"))).resolve()
SCHEDULER_CALLABLES: list[str] = env.list("SCHEDULER_CALLABLES", [])
# The application of `celery` runs ("shop.celery:app"), where it is found, what executes it (our own interpreter where
# empty), and which variables of the worker it gets.
SCHEDULER_CELERY_APP: str = env.str("SCHEDULER_CELERY_APP", "")
SCHEDULER_CELERY_DIR: str = env.str("SCHEDULER_CELERY_DIR", "")
SCHEDULER_CELERY_PYTHON: str = env.str("SCHEDULER_CELERY_PYTHON", "")
SCHEDULER_CELERY_PASS: list[str] = env.list("SCHEDULER_CELERY_PASS", [])
# What starts the containers of `container` runs, and options that every one of them gets.
SCHEDULER_CONTAINER_ENGINE = choice("SCHEDULER_CONTAINER_ENGINE", "docker", ("docker", "kubernetes"))
SCHEDULER_CONTAINER_COMMAND: str = env.str("SCHEDULER_CONTAINER_COMMAND", "docker")
SCHEDULER_CONTAINER_OPTIONS: str = env.str("SCHEDULER_CONTAINER_OPTIONS", "")
# Outside of a cluster these four say which one; inside, its own account does.
SCHEDULER_KUBERNETES_URL: str = env.str("SCHEDULER_KUBERNETES_URL", "") or own_cluster()
SCHEDULER_KUBERNETES_NAMESPACE: str = env.str("SCHEDULER_KUBERNETES_NAMESPACE", "")
SCHEDULER_KUBERNETES_TOKEN: str = env.str("SCHEDULER_KUBERNETES_TOKEN", "")
SCHEDULER_KUBERNETES_CA: str = env.str("SCHEDULER_KUBERNETES_CA", "")
# The databases of `sql` runs by name: SCHEDULER_SQL_REPORTS is "reports".
SCHEDULER_SQL = sql_connections("SCHEDULER_SQL_")
# Address ranges that `http` runs may reach although they are private, e.g. 10.1.0.0/16,127.0.0.0/8.
SCHEDULER_HTTP_ALLOW = networks("SCHEDULER_HTTP_ALLOW")
SCHEDULER_OUTPUT_BYTES = int(positive("SCHEDULER_OUTPUT_BYTES", 1024 * 1024))
SCHEDULER_LINE_BYTES = int(positive("SCHEDULER_LINE_BYTES", 16 * 1024))
# Where the output of runs that are over is kept when it is larger than SCHEDULER_OUTPUT_STORE_FROM_BYTES.
SCHEDULER_OUTPUT_STORE: str = place("SCHEDULER_OUTPUT_STORE", "database", ("file:///", "s3://"))
SCHEDULER_OUTPUT_STORE_FROM_BYTES = int(positive("SCHEDULER_OUTPUT_STORE_FROM_BYTES", 64 * 1024))
SCHEDULER_S3_ENDPOINT: str = env.str("SCHEDULER_S3_ENDPOINT", "")
SCHEDULER_S3_REGION: str = env.str("SCHEDULER_S3_REGION", "us-east-1")
SCHEDULER_S3_ACCESS_KEY: str = env.str("SCHEDULER_S3_ACCESS_KEY", "")
SCHEDULER_S3_SECRET_KEY: str = env.str("SCHEDULER_S3_SECRET_KEY", "")

# How long a request for the approval of a second person can be decided.
SCHEDULER_APPROVAL_HOURS = positive("SCHEDULER_APPROVAL_HOURS", 24.0)

# --- REST API -------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "access_app.authentication.ApiKeyAuthentication",
        "access_app.authentication.JWTAuthentication",
        "access_app.authentication.ConsoleSessionAuthentication",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["access_app.api.throttles.PrincipalThrottle"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["access_app.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "access_app.api.schema.ProblemAutoSchema",
    "EXCEPTION_HANDLER": "access_app.api.problems.problem_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Scheduler API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api",
    # Two fields by one name whose values differ.
    "ENUM_NAME_OVERRIDES": {
        "ScheduleKind": "tasks_app.models.schedule.ScheduleKind",
        "SettingKind": "access_app.api.settings.KIND_NAMES",
    },
}

# --- Languages, time, files -----------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
# The zone that a new schedule and the console start with; instants are stored and sent in UTC.
SCHEDULER_TIME_ZONE: str = env.str("SCHEDULER_TIME_ZONE", "UTC")
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True

# --- Logs -----------------------------------------------------------------------------------------------------------
SCHEDULER_LOG_FORMAT = choice("SCHEDULER_LOG_FORMAT", "text", ("text", "json"))
SCHEDULER_LOG_LEVEL = choice("SCHEDULER_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING_CONFIG = None
configure_logging(SCHEDULER_LOG_FORMAT, SCHEDULER_LOG_LEVEL)
PROMETHEUS_EXPORT_MIGRATIONS = False
# Whether HSTS covers subdomains and browsers' preload lists is for the owner of the domain to say, not for us.
# axes.W002: its middleware would only write the answers that access_app/sign_in.py gives.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021", "axes.W002"]
