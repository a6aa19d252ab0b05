"""Settings of sign-in and of the web: who gets in, from where, and what browsers are told. Part of settings.py."""

from __future__ import annotations

from datetime import timedelta

from scheduler_site.env import PRODUCTION, env, networks, several

# --- Where requests may come from -----------------------------------------------------------------------------------
# Address ranges of clients; empty: everywhere. And the proxies whose word about the client is believed.
SCHEDULER_IP_ALLOW_LIST = networks("SCHEDULER_IP_ALLOW_LIST")
SCHEDULER_TRUSTED_PROXIES = networks("SCHEDULER_TRUSTED_PROXIES")

# --- Sign-in, sessions, keys ----------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = [
    "access_app.sign_in.LockOutBackend",
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
# django-axes: after ten failures of one user from one address, a quarter of an hour without a try.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_CLIENT_IP_CALLABLE = "access_app.network.client_address"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
# Sign-ins stand in the audit trail; its page in the admin is ours.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "console:sign_in"
LOGIN_REDIRECT_URL = "console:overview"
LOGOUT_REDIRECT_URL = "console:sign_in"
ANONYMOUS_USER_NAME = None  # guardian: no anonymous row, nothing anonymous at all
# Our key model has taken the place of knox's own, whose table would only be in the way.
MIGRATION_MODULES = {"knox": None}
KNOX_TOKEN_MODEL = "access_app.ApiKey"  # noqa: S105  (a model path, not a secret)
REST_KNOX = {"TOKEN_PREFIX": "dts_", "TOKEN_TTL": None}

# API requests of one key, or of one user, in a minute; 0: no limit.
SCHEDULER_REQUESTS_PER_MINUTE: int = env.int("SCHEDULER_REQUESTS_PER_MINUTE", 6000)

# --- Web hardening --------------------------------------------------------------------------------------------------
SESSION_COOKIE_AGE = int(timedelta(days=7).total_seconds())
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = PRODUCTION
CSRF_COOKIE_SECURE = PRODUCTION
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = PRODUCTION and env.bool("SCHEDULER_SSL_REDIRECT", True)
SECURE_HSTS_SECONDS = 31536000 if PRODUCTION else 0
# Whether every host below ours answers by HTTPS is for the owner of the domain to say.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SCHEDULER_HSTS_SUBDOMAINS", False)
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
# Connections that may go without TLS since the network between is private: database, broker.
SCHEDULER_PLAINTEXT = several("SCHEDULER_PLAINTEXT", ("database", "broker"))
# Origins whose pages may use the API; never with the cookies of somebody who is signed in.
CORS_ALLOWED_ORIGINS: list[str] = env.list("SCHEDULER_CORS_ORIGINS", [])
CORS_ALLOW_ALL_ORIGINS = "*" in CORS_ALLOWED_ORIGINS
if CORS_ALLOW_ALL_ORIGINS:
    CORS_ALLOWED_ORIGINS = []
CORS_URLS_REGEX = r"^/api(/|$)"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "x-api-key",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    *("ETag", "Retry-After", "X-Request-ID"),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy"),
]
CORS_PREFLIGHT_MAX_AGE = 600
SECURE_REDIRECT_EXEMPT = [r"^health/live/?$"]
if env.bool("SCHEDULER_TRUST_FORWARDED_PROTO", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/api/docs"],
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    },
}
