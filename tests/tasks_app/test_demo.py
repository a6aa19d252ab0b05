"""The demo: its scripts as anybody would call them, and the project that load_demo makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from access_app.actors import system_actor
from access_app.models import AuditEntry
from tasks_app import demo
from tasks_app.models import Schedule, Task, TaskDependency, TaskVersion

SCRIPTS = Path(__file__).resolve().parents[2] / "demo" / "scripts"
CRONTAB = b"SHELL=/bin/sh\n17 * * * * root run-parts /etc/cron.hourly\n"


def run_script(name: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(folder / f"{name}.py"), *arguments],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def last_json(ended: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return found


# The scripts


def test_the_pipeline_reads_the_real_tables_and_writes_a_report(tmp_path):
    environment = {"PARAM_WORK_DIR": str(tmp_path), "SCHEDULER_NOMINAL_TIME": "2026-03-01T00:00:00Z"}
    counted = last_json(run_script("extract", SCRIPTS, **environment))
    zones = json.loads((tmp_path / "zones.json").read_text())
    assert counted == {"zones": len(zones["zones"]), "countries": len(zones["countries"])}
    by_code = {country["code"]: country for country in zones["countries"]}
    assert by_code["DE"]["name"] == "Germany" and "Europe/Berlin" in by_code["DE"]["zones"]
    assert len(by_code["US"]["zones"]) > 20

    assert last_json(run_script("transform", SCRIPTS, **environment))["changes"] == 20
    changes = json.loads((tmp_path / "dst_changes.json").read_text())["changes"]
    assert [change["at"] for change in changes] == sorted(change["at"] for change in changes)

    reported = run_script("report", SCRIPTS, **environment)
    assert last_json(reported)["report"] == str(tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    assert "| United States |" in text and text in reported.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst_changes.json", "report.md", "zones.json"]


def test_a_change_of_the_clock_is_found_to_the_second(tmp_path):
    (tmp_path / "zones.json").write_text(json.dumps({"zones": {"Europe/Berlin": ["DE"], "Asia/Tokyo": ["JP"]}}))
    run_script("transform", SCRIPTS, "--work-dir", str(tmp_path), "--now", "2026-03-01T12:34:56+01:00", "--count", "2")
    assert json.loads((tmp_path / "dst_changes.json").read_text())["changes"] == [
        {"at": "2026-03-29T01:00:00Z", "zone": "Europe/Berlin", "before": "UTC+0100", "after": "UTC+0200"},
        {"at": "2026-10-25T01:00:00Z", "zone": "Europe/Berlin", "before": "UTC+0200", "after": "UTC+0100"},
    ]


@pytest.mark.parametrize(
    ("name", "missing", "first"), [("transform", "zones", "extract"), ("report", "zones", "extract")]
)
def test_a_missing_input_is_named_with_the_step_that_writes_it(tmp_path, name, missing, first):
    ended = run_script(name, SCRIPTS, PARAM_WORK_DIR=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr == f"{name}: {tmp_path / missing}.json is missing; run {first} first.\n"


@pytest.mark.parametrize("name", ["extract", "transform", "report"])
def test_a_script_without_a_work_folder_says_how_to_name_one(name):
    ended = run_script(name, SCRIPTS)
    assert ended.returncode == 2 and "PARAM_WORK_DIR" in ended.stderr


def test_a_broken_input_is_refused_and_the_last_good_result_stays(tmp_path):
    (tmp_path / "zones.json").write_text("{")
    (tmp_path / "dst_changes.json").write_text("good")
    ended = run_script("transform", SCRIPTS, PARAM_WORK_DIR=str(tmp_path))
    assert ended.returncode == 1 and "not JSON" in ended.stderr and "Traceback" not in ended.stderr
    assert (tmp_path / "dst_changes.json").read_text() == "good"


# The project


@pytest.fixture
def folders(settings, tmp_path):
    settings.SCHEDULER_DATA_DIR = tmp_path / "data"
    settings.SCHEDULER_SCRIPTS_DIR = tmp_path / "scripts"
    return tmp_path


@pytest.fixture
def crontab(tmp_path):
    path = tmp_path / "crontab"
    path.write_bytes(CRONTAB)
    return path


def load(*crontabs: Path) -> demo.Loaded:
    return demo.load(system_actor("command tester"), crontabs=crontabs, now=timezone.now())


@pytest.mark.django_db
def test_the_demo_is_a_pipeline_that_fires_each_minute_and_paused_crontab_tasks(folders, crontab):
    loaded = load(crontab)
    found = {task.name: task for task in Task.objects.filter(project=loaded.project).select_related("version")}
    assert {name for name, task in found.items() if task.paused} == {"crontab: run-parts /etc/cron.hourly"}
    assert {name for name, task in found.items() if not task.paused} == {"extract", "transform", "report"}
    edges = TaskDependency.objects.values_list("upstream__name", "downstream__name")
    assert sorted(edges) == [("extract", "transform"), ("transform", "report")]
    root = found["extract"].schedules.get()
    assert root.expression == "* * * * *" and root.enabled
    assert not Schedule.objects.filter(task__in=[found["transform"], found["report"]]).exists()


@pytest.mark.django_db
def test_the_copied_scripts_run_with_the_parameters_of_their_tasks(folders):
    for task in load().pipeline:
        assert task.version is not None and task.version.executor == "python"
        script = Path(settings.SCHEDULER_SCRIPTS_DIR, task.version.command)
        parameters = {f"PARAM_{name}": value for name, value in task.version.params.items()}
        last_json(run_script(script.stem, script.parent, **parameters))
    assert (folders / "data" / "demo" / "report.md").read_text().startswith("# Time zones")


@pytest.mark.django_db
def test_a_second_load_changes_nothing_and_keeps_a_pause(folders, crontab):
    load(crontab)
    Task.objects.filter(name="extract").update(paused=True)
    audited = AuditEntry.objects.count()
    assert load(crontab).report.counts["unchanged"] == 1
    assert AuditEntry.objects.count() == audited
    assert Task.objects.count() == 4 and Task.objects.get(name="extract").paused


@pytest.mark.django_db
def test_a_second_load_puts_a_changed_command_right_again(folders):
    load()
    current = TaskVersion.objects.filter(pk=Task.objects.get(name="report").version_id or 0)
    current.update(command="demo/other.py")
    load()
    assert Task.objects.filter(name="report", version__command="demo/report.py").count() == 1


@pytest.mark.django_db
def test_a_machine_without_crontabs_is_told_so(folders, monkeypatch):
    monkeypatch.setattr(demo, "machine_crontabs", list)
    out = StringIO()
    call_command("load_demo", stdout=out)
    assert "has no crontab" in out.getvalue() and "extract → transform → report" in out.getvalue()


@pytest.mark.django_db
def test_load_demo_answers_json(folders, crontab, monkeypatch):
    monkeypatch.setattr(demo, "machine_crontabs", lambda: [crontab])
    out = StringIO()
    call_command("load_demo", "--json", stdout=out)
    answer = json.loads(out.getvalue())
    assert answer["pipeline"] == ["extract", "transform", "report"]
    assert answer["crontabs"] == [str(crontab)] and answer["imported"]["created"] == 1


@pytest.mark.django_db
def test_a_scripts_folder_that_cannot_be_made_is_refused_and_nothing_is_loaded(folders, settings):
    (folders / "file").write_text("")
    settings.SCHEDULER_SCRIPTS_DIR = folders / "file"
    with pytest.raises(CommandError) as refused:
        call_command("load_demo")
    assert refused.value.returncode == 2
    assert not Task.objects.exists()


def test_only_files_that_cron_reads_are_crontabs_of_this_machine(tmp_path):
    folder = tmp_path / "cron.d"
    folder.mkdir()
    for name in ("php", "e2scrub_all", ".placeholder", "php.dpkg-dist", "backup~"):
        (folder / name).write_text("")
    (folder / "folder").mkdir()
    assert [path.name for path in demo.machine_crontabs(tmp_path / "crontab", folder)] == ["e2scrub_all", "php"]
    (tmp_path / "crontab").write_text("")
    assert demo.machine_crontabs(tmp_path / "crontab", folder)[0] == tmp_path / "crontab"


def test_the_clock_is_read_only_where_no_nominal_time_is_given(tmp_path):
    (tmp_path / "zones.json").write_text(json.dumps({"zones": {"Europe/Berlin": ["DE"]}}))
    run_script("transform", SCRIPTS, PARAM_WORK_DIR=str(tmp_path))
    written = json.loads((tmp_path / "dst_changes.json").read_text())
    assert abs(datetime.fromisoformat(written["after"]) - datetime.now(UTC)).total_seconds() < 60
