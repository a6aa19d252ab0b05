"""Production does not start with keys that can be guessed, open doors or passwords in plain text on a wire."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from monitoring_app.checks_of_deployment import faults, is_guessable
from scheduler_site.start import refuse_unsafe_start

ROOT = Path(__file__).resolve().parents[2]
# Nothing here connects to what the settings name.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")


@pytest.fixture
def sound(settings):
    """Settings with which production starts."""
    settings.PRODUCTION = True
    settings.SECRET_KEY = secrets.token_urlsafe(64)
    settings.SCHEDULER_ENCRYPTION_KEYS = [secrets.token_urlsafe(32)]
    settings.ALLOWED_HOSTS = ["scheduler.example"]
    settings.DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "db.example",
            "OPTIONS": {"sslmode": "verify-full"},
        }
    }
    settings.SCHEDULER_BROKER_URL = "amqps://broker.example//"
    settings.SCHEDULER_PLAINTEXT = []
    return settings


def found() -> list[str]:
    return sorted(str(message.id).removeprefix("scheduler.") for message in faults())


def test_a_sound_installation_has_no_fault_and_starts(sound):
    assert found() == []
    refuse_unsafe_start()


@pytest.mark.parametrize(
    ("name", "value", "id"),
    [
        ("SECRET_KEY", "short", "E030"),
        ("SECRET_KEY", "x" * 80, "E031"),
        ("SECRET_KEY", "0123456789" * 8, "E031"),
        ("SECRET_KEY", "django-insecure-" + "f8#kz9@qw3!mv7&xp2^ld5*tn1+hs4=bj6-gr0~cy" * 2, "E031"),
        ("SECRET_KEY_FALLBACKS", ["short"], "E030"),
        ("DEBUG", True, "E032"),
        ("ALLOWED_HOSTS", ["scheduler.example", "*"], "E033"),
        ("CORS_ALLOW_ALL_ORIGINS", True, "E034"),
        ("SCHEDULER_TRUSTED_PROXIES", [ip_network("10.0.0.0/8"), ip_network("::/0")], "E035"),
        ("SCHEDULER_BROKER_URL", "amqp://broker.example//", "E037"),
        ("SCHEDULER_BROKER_URL", "redis-stream://10.0.0.5:6379/0", "E037"),
    ],
)
def test_each_fault_has_its_own_id_a_hint_and_stops_the_start(sound, name, value, id):
    setattr(sound, name, value)
    assert found() == [id]
    assert all(message.hint for message in faults())
    with pytest.raises(ImproperlyConfigured, match=id):
        refuse_unsafe_start()


@pytest.mark.parametrize("options", [{}, {"sslmode": "prefer"}, {"sslmode": "disable"}])
def test_a_database_elsewhere_is_reached_by_tls_or_named_as_an_exception(sound, options):
    database = {"ENGINE": "django.db.backends.postgresql", "HOST": "db.example", "OPTIONS": options}
    sound.DATABASES = {"default": database}
    assert found() == ["E036"]
    sound.SCHEDULER_PLAINTEXT = ["broker"]
    assert found() == ["E036"]
    sound.SCHEDULER_PLAINTEXT = ["database"]
    assert found() == []


@pytest.mark.parametrize("host", ["", "/var/run/postgresql", "localhost", "127.0.0.1", "::1"])
def test_what_does_not_leave_the_machine_needs_no_tls(sound, host):
    sound.DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": host, "OPTIONS": {}}}
    sound.SCHEDULER_BROKER_URL = "amqp://guest:guest@127.0.0.1:5672//"
    assert found() == []
    sound.SCHEDULER_BROKER_URL = "memory://"
    assert found() == []


def test_an_exception_for_the_broker_is_none_for_the_database(sound):
    sound.SCHEDULER_BROKER_URL = "amqp://rabbitmq:5672//"
    sound.SCHEDULER_PLAINTEXT = ["database"]
    assert found() == ["E037"]
    sound.SCHEDULER_PLAINTEXT = ["database", "broker"]
    assert found() == []


def test_random_keys_of_any_usual_kind_are_not_taken_for_examples():
    for make in (lambda: secrets.token_urlsafe(64), lambda: secrets.token_hex(32), lambda: secrets.token_urlsafe(38)):
        assert not any(is_guessable(make()) for _ in range(200))


def test_outside_production_only_the_check_of_a_deployment_tells(sound):
    sound.PRODUCTION = False
    sound.SCHEDULER_BROKER_URL = "amqp://broker.example//"
    refuse_unsafe_start()
    told = {message.id for message in run_checks(tags=["scheduler"], include_deployment_checks=True)}
    assert "scheduler.E037" in told


# The processes themselves


def started(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SCHEDULER_", "CELERY_", "DATABASE_"))}
    sane = {
        "SCHEDULER_ENV": "production",
        "SCHEDULER_SECRET_KEY": secrets.token_urlsafe(64),
        "SCHEDULER_ENCRYPTION_KEYS": secrets.token_urlsafe(32),
        "SCHEDULER_ALLOWED_HOSTS": "scheduler.example",
        "DATABASE_URL": "sqlite:///:memory:",
        "CELERY_BROKER_URL": "amqps://broker.example//",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=inherited | sane | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


WEB = ("-c", "import scheduler_site.wsgi")


@pytest.mark.parametrize("command", [WEB, ("manage.py", "run_dispatcher"), ("manage.py", "run_worker")])
def test_no_process_of_production_starts_with_a_key_that_can_be_guessed(command):
    refused = started(*command, SCHEDULER_SECRET_KEY="changeme-" * 10)
    assert refused.returncode != 0 and "scheduler.E031" in refused.stderr


def test_the_web_process_of_a_sound_installation_starts():
    done = started(*WEB)
    assert done.returncode == 0, done.stderr


def test_the_compose_file_names_the_exception_that_its_connections_need():
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    assert "SCHEDULER_PLAINTEXT: database,broker" in text
    done = started(
        "manage.py",
        "check",
        DATABASE_URL="postgres://scheduler:word@postgres:5432/scheduler",
        CELERY_BROKER_URL="amqp://scheduler:word@rabbitmq:5672//",
        SCHEDULER_PLAINTEXT="database,broker",
    )
    assert done.returncode == 0, done.stderr
