"""The test run as a whole: its database, its people, and the parts that it names when they cannot run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from tests import environment
from tests.environment import NOT_RUN

if "DJANGO_SETTINGS_MODULE" in os.environ and "TEST_DIRECTORY" not in os.environ:
    pytest.exit("Unset DJANGO_SETTINGS_MODULE: the settings would load before the tests choose their database.", 4)
environment.prepare()

PARTS = ("postgresql", "rabbitmq", "redis", "browser")


# The run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database-only", action="store_true", help="leave out the tests that use no database")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    from django.conf import settings

    database = settings.DATABASES["default"]
    database.setdefault("TEST", {})["NAME"] = environment.test_database_name()
    if environment.on_postgresql():
        # A test may compute, wait or be looked at in a debugger in the middle of its own transaction.
        database["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if _is_first_process(config):
        environment.drop_abandoned_databases()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_first_process(config):
        environment.forget()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen_sqlite = not environment.on_postgresql() and environment.missing_suite() is None
    without = config.getoption("--database-only")
    left_out = {
        item
        for item in items
        if (chosen_sqlite and item.get_closest_marker("postgresql"))
        or (without and not _uses_database(item))
        or (not {os.environ.get("TEST_LONG"), os.environ.get("TEST_CHAOS")} & {"1"} and item.get_closest_marker("long"))
    }
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        for part in PARTS:
            if item.get_closest_marker(part) and (reason := environment.missing_part(part)):
                item.add_marker(pytest.mark.skip(reason=reason))
    if not _is_first_process(config):
        _spread(items)


def _spread(items: list[pytest.Item]) -> None:
    """Tests that start processes wait for the most part, and for much at once when several run beside each other: among
    those that compute they cost the least time, and disturb each other the least."""
    parts: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        parts[item.get_closest_marker("processes") is not None].append(item)
    places = {item: (place + 0.5) / len(part) for part in parts.values() for place, item in enumerate(part)}
    items.sort(key=places.__getitem__)


def _uses_database(item: pytest.Item) -> bool:
    return item.get_closest_marker("django_db") is not None or "django_db_setup" in getattr(item, "fixturenames", ())


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    for line in _not_run(terminalreporter):
        terminalreporter.write_line(line, red=True, bold=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and _not_run(reporter) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _not_run(reporter: TerminalReporter) -> list[str]:
    counts: dict[str, int] = {}
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if reason.startswith(NOT_RUN):
            counts[reason] = counts.get(reason, 0) + 1
    lines = [f"{reason} ({count})" for reason, count in sorted(counts.items())]
    return [suite, *lines] if (suite := environment.missing_suite()) else lines


def _is_first_process(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


# The database


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """The test database; child processes find it at DATABASE_URL, and emptying it leaves the rows of the migrations."""
    from django.db import connection
    from django.db.models.signals import post_migrate

    name = connection.settings_dict["NAME"]
    os.environ["DATABASE_URL"] = (
        environment.database_url(name) if connection.vendor == "postgresql" else f"sqlite:///{name}"
    )
    # A transactional test ends with every table emptied; the default project and pool are not its rows to take away.
    post_migrate.connect(_restore_defaults, dispatch_uid="tests")
    if connection.vendor == "postgresql":
        _empty_by_deleting(connection)
    yield
    post_migrate.disconnect(dispatch_uid="tests")


def _empty_by_deleting(connection: Any) -> None:
    """After a transactional test few tables have rows. To truncate them all takes a new file for each table and index:
    with hundreds of such tests, a third of the whole run. Foreign keys are checked at the end of the transaction, so
    that the order does not matter.
    """
    truncating = connection.ops.sql_flush

    def sql_flush(style: Any, tables: list[str], *, reset_sequences: bool = False, **options: Any) -> list[str]:
        if reset_sequences:
            return list(truncating(style, tables, reset_sequences=True, **options))
        names = {table: connection.ops.quote_name(table) for table in tables}
        asked = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {names[table]})" for table in names)
        with connection.cursor() as cursor:
            cursor.execute(asked)
            full = [table for (table,) in cursor.fetchall()]
        return [statement for table in full for statement in _emptying(table, names[table])]

    connection.ops.sql_flush = sql_flush


def _emptying(table: str, name: str) -> list[str]:
    if not table.startswith("access_app_audit"):
        return [f"DELETE FROM {name};"]
    # Append-only: to the owner of the tables alone, and by more than a DELETE.
    turned = "ALTER TABLE {name} {how} TRIGGER USER;"
    return [turned.format(name=name, how="DISABLE"), f"DELETE FROM {name};", turned.format(name=name, how="ENABLE")]


def _restore_defaults(app_config: Any, **options: Any) -> None:
    from django.apps import apps

    if app_config.name == "tasks_app":
        importlib.import_module("tasks_app.migrations.0002_defaults").create_defaults(apps, None)


@pytest.fixture(autouse=True)
def _own_runtime_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test has set stays in its database; the process must not remember it for the next one."""
    from access_app import rates, refusals, runtime

    refusals.forget()
    rates.forget()
    monkeypatch.setattr(rates, "REFRESH_SECONDS", 1e9)
    yield
    runtime.forget()


@pytest.fixture
def any_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every broker can be used: nobody is asked."""
    monkeypatch.setattr("workers_app.brokers.refusal_of", lambda _url: None)


@pytest.fixture
def second_connection(transactional_db: None) -> Iterator[Any]:
    """A psycopg connection beside Django's, to stage the other side of a race: it holds locks until it commits.

    Mark the test `postgresql`; what it reads must be committed, hence the transactional database.
    """
    import psycopg
    from django.db import connection

    settings = connection.get_connection_params()
    wanted = {key: settings[key] for key in ("dbname", "user", "password", "host", "port") if settings.get(key)}
    with psycopg.connect(**wanted) as other:
        yield other
        other.rollback()


@pytest.fixture
def in_thread(transactional_db: None) -> Iterator[Callable[..., Future[Any]]]:
    """Start `function(*arguments, **options)` on a thread with its own Django connection; answers its Future."""
    from django.db import connections

    def body(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=16) as pool:
        yield lambda function, *arguments, **options: pool.submit(body, function, *arguments, **options)


# Real processes


@pytest.fixture(scope="session")
def stack_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a migrated PostgreSQL database that stacks are copied from."""
    from tests.services import create_template

    name = f"test_scheduler_{os.getpid()}_template"
    try:
        create_template(name, tmp_path_factory.mktemp("template"))
        yield name
    finally:
        environment.administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def process_stack(stack_template: str, tmp_path: Any) -> Iterator[Any]:
    """A tests.services.ProcessStack of real processes; mark the test `processes`, postgresql and rabbitmq."""
    from tests.services import ProcessStack

    stack = ProcessStack(tmp_path, stack_template)
    try:
        yield stack
    finally:
        stack.close()


# The people: one owner, one team mate, one stranger


@pytest.fixture
def project(db: None) -> Any:
    from tasks_app.models import Project

    return Project.objects.create(name="analytics")


@pytest.fixture
def alice(project: Any) -> Any:
    """Owns the project: role admin."""
    return _member("alice", "admin", project)


@pytest.fixture
def bob(project: Any) -> Any:
    """Team mate: role operator."""
    return _member("bob", "operator", project)


@pytest.fixture
def charlie(db: None) -> Any:
    """Stranger: signed in, without a role anywhere."""
    return _member("charlie", None, None)


@pytest.fixture
def root_user(db: None) -> Any:
    """Administers the installation."""
    from django.contrib.auth import get_user_model

    return get_user_model().objects.create_superuser("root", password="correct horse battery")


def _member(name: str, role: str | None, project: Any) -> Any:
    from django.contrib.auth import get_user_model

    from access_app.roles import grant

    user = get_user_model().objects.create_user(name, password="correct horse battery")
    if role is not None:
        grant(user, role, project)
    return user


@pytest.fixture
def chromium() -> str:
    """The path of the browser; mark the test `browser`."""
    from scripts.probes import find_chromium

    path = find_chromium()
    assert path is not None
    return path
