"""The rules of the house that a program can see."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from django.urls import URLResolver, get_resolver

from tasks_app.states import ALLOWED, TERMINAL
from tests.single_writer import writes_of_run_state

ROOT = Path(__file__).resolve().parent.parent
APPS = ("access_app", "tasks_app", "workers_app", "dispatcher_app", "monitoring_app", "console_app")
SOURCE = sorted(
    path
    for folder in (*APPS, "scheduler_site", "scripts")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts
)
LONGEST_FILE = 300
LONGEST_MODELS = 350


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_nothing_but_transitions_writes_the_state_of_a_run():
    writer = ROOT / "tasks_app" / "transitions.py"
    found = [
        f"{named(path)}:{line}: {text}"
        for path in SOURCE
        if path != writer
        for line, text in writes_of_run_state(path.read_text())
    ]
    assert found == []
    assert writes_of_run_state(writer.read_text()), "the detector sees what it looks for"


@pytest.mark.parametrize(
    "code",
    [
        "Run.objects.filter(pk=1).update(state='failed')",
        "runs.update(reason='', state=RunState.FAILED)",
        "Run.objects.bulk_update(runs, ['state', 'reason'])",
        "Run.objects.create(task=task, state='queued')",
        "Run(task=task, state=RunState.QUEUED)",
        "run.state = RunState.FAILED",
        "Run.objects.filter(worker_id=worker.pk).update(state=state)",
        "def leave(state: RunState) -> None: alive.update(state=state)",
        "run.save(update_fields=['state'])",
        "setattr(run, 'state', 'failed')",
        "cursor.execute('UPDATE tasks_app_run SET state = %s WHERE id = 1')",
        "cursor.execute(f'UPDATE tasks_app_run AS run SET reason = 1, state = {x} WHERE id = 1')",
        "cursor.execute('INSERT INTO tasks_app_run (id, state) VALUES (1, 2)')",
        "cursor.execute('DELETE FROM tasks_app_run; update \"tasks_app_run\" set state = 1')",
    ],
)
def test_every_way_to_write_the_state_is_seen(code):
    assert writes_of_run_state(code)


@pytest.mark.parametrize(
    "code",
    [
        "Worker.objects.filter(pk=1).update(state=WorkerState.LOST)",
        "def leave(state: WorkerState) -> None: alive.update(state=state)",
        "alive = Worker.objects.filter(pk=1)\nalive.update(state=state)",
        "Backfill.objects.filter(pk=1).exclude(state=to).update(state=to)",
        "Run.objects.filter(state='failed').update(held=True)",
        "outcome.state = RunState.LOST",
        "Outcome(id=1, attempt=1, state=RunState.LOST)",
        "run.save(update_fields=['held'])",
        "cursor.execute('UPDATE tasks_app_run SET sweep_at = 1 WHERE state = 1')",
        "cursor.execute('SELECT id FROM tasks_app_run WHERE state = 1')",
        "cursor.execute('INSERT INTO tasks_app_runevent (run_id, from_state) VALUES (1, 2)')",
    ],
)
def test_what_only_reads_the_state_or_writes_another_is_not_accused(code):
    assert writes_of_run_state(code) == []


def test_apps_import_downwards_only():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_file_has_outgrown_its_purpose():
    too_long = [
        f"{named(path)}: {length} lines"
        for path in SOURCE
        if (length := len(path.read_text().splitlines()))
        > (LONGEST_MODELS if "models" in named(path) else LONGEST_FILE)
    ]
    assert too_long == []


def test_every_index_names_its_reader():
    nameless = [
        f"{named(path)}:{number}"
        for path in SOURCE
        for number, (before, line) in enumerate(pairwise(path.read_text().splitlines()), start=2)
        if line.lstrip().startswith("models.Index(") and not before.lstrip().startswith(("# Reader", "models.Index("))
    ]
    assert nameless == []


def test_the_diagram_of_a_run_shows_exactly_the_allowed_moves():
    text = (ROOT / "docs" / "life_of_a_run.md").read_text()
    diagram = text.split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r"^ *(\S+) --> (\S+?)(?::.*)?$", diagram, re.MULTILINE))
    allowed = {(str(source), str(target)) for source, targets in ALLOWED.items() for target in targets}
    assert drawn == allowed | {("[*]", "waiting")} | {(str(state), "[*]") for state in TERMINAL}


def test_no_package_index_and_no_path_of_a_machine_is_in_a_tracked_file():
    names = ("pypi" + ".org", "python" + "hosted.org", "npmjs" + ".org", "/work/" + "main", "/root" + "/.", str(ROOT))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    tracked = [ROOT / name for name in listed.split("\0") if name]
    assert tracked, "git lists the files of this repository"
    texts = {path: path.read_text(errors="ignore") for path in tracked if path.is_file()}
    assert [f"{named(path)}: {name}" for path, text in texts.items() for name in names if name in text] == []


def test_every_url_name_that_templates_and_code_use_exists():
    known = set(_url_names(get_resolver(), ""))
    templates = [path for folder in ("templates", *APPS) for path in (ROOT / folder).rglob("*.html")]
    used = {
        (named(path), name) for path in templates for name in re.findall(r"{%\s*url\s+['\"]([\w:-]+)", path.read_text())
    }
    calls = re.compile(r"\b(?:reverse|reverse_lazy|redirect|resolve_url)\(\s*['\"]([\w:-]+)['\"]")
    used |= {(named(path), name) for path in SOURCE for name in calls.findall(path.read_text())}
    assert used, "the pages link to one another"
    assert sorted(f"{place}: {name}" for place, name in used if name not in known) == []


def test_every_variable_that_is_read_is_documented_and_no_other():
    documented = set(re.findall(r"^\| `([A-Z0-9_]+)`", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
    readers = re.compile(
        r"\b(?:env\.\w+|choice|place|positive|database|networks|several|environ\.get|getenv)\(\s*\"([A-Z0-9_]+)\""
    )
    read = {name for path in SOURCE for name in readers.findall(path.read_text())} - {"PORT"}
    assert read - documented == set()
    assert {name for name in documented if name.startswith(("SCHEDULER_", "DATABASE_", "CELERY_"))} - read == set()


def _url_names(resolver: URLResolver, prefix: str) -> Iterator[str]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from _url_names(entry, f"{prefix}{entry.namespace}:" if entry.namespace else prefix)
        elif entry.name:
            yield prefix + entry.name
