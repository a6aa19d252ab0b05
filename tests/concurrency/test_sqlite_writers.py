"""SQLite has one writer at a time: several processes wait for each other and lose nothing.

TEST_LONG=1: eight of them for a minute or more, instead of four for some seconds.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.work import LONG

ROOT = Path(__file__).resolve().parents[2]
WRITERS, ROUNDS = (8, 200) if LONG else (4, 15)
SETUP = """
from datetime import UTC, datetime, timedelta
from access_app.actors import system_actor
from tasks_app.models import Pool, Project
from tasks_app.services import schedules, tasks
now = datetime.now(UTC)
fields = {"name": "shared", "project": Project.objects.get(name="default"), "pool": Pool.objects.get(name="default")}
fields |= {"executor": "callable", "command": "workers_app.samples.noop"}
task = tasks.create(system_actor(), fields, now=now)
schedules.create(system_actor(), task, {"expression": "* * * * *", "catch_up": "all"}, now=now - timedelta(minutes=30))
"""


@pytest.mark.processes
def test_several_processes_write_to_one_file_without_an_error_or_a_loss(tmp_path):
    database = tmp_path / "scheduler.sqlite3"
    environ = {**os.environ, "DATABASE_URL": f"sqlite:///{database}", "SCHEDULER_DATA_DIR": str(tmp_path)}
    for command in (["migrate", "--verbosity", "0"], ["shell", "--verbosity", "0", "--command", SETUP]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environ, check=True, timeout=120)
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.concurrency.sqlite_writer", str(number), str(ROUNDS)],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    answers = [writer.communicate(timeout=1200 if LONG else 120) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * WRITERS, answers
    finished = [id for output, _errors in answers for id in json.loads(output)]
    with sqlite3.connect(database) as connection:
        states = connection.execute("select state, count(*) from tasks_app_run group by state").fetchall()
        events = connection.execute("select count(*), count(distinct run_id || to_state) from tasks_app_runevent")
        scheduled = connection.execute(
            "select count(*), count(distinct nominal_at) from tasks_app_run where schedule_id is not null"
        ).fetchone()
        written, distinct = events.fetchone()
    total = WRITERS * ROUNDS * 10 + scheduled[0]
    assert states == [("succeeded", total)]
    assert scheduled[0] == scheduled[1] >= 30
    assert len(finished) == len(set(finished)) == total
    assert written == distinct == 4 * total
