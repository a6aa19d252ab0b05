"""The folders of workers: they go with their worker, and those of a dead one with the next that starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks_app import deaths
from tasks_app.deaths import Cause
from workers_app import folders, remains
from workers_app.folders import WorkerFolder

ROOT = Path(folders.__file__).resolve().parent.parent
DIES = """
import os, sys
from workers_app.folders import folder
folder.open(sys.argv[1])
(folder.of_run(3) / "left").touch()
os.kill(os.getpid(), 9)
"""


def never(*_arguments: object) -> bool:
    raise AssertionError("there is nothing to be told")


@pytest.fixture(autouse=True)
def _temp(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_what_a_killed_worker_left_is_removed_and_what_a_living_one_has_is_not(tmp_path):
    living = WorkerFolder()
    living.open("living")
    kept = living.of_run(7)
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", DIES, "dead"], cwd=ROOT, env=environ, check=False)
    assert list((folders.root() / "dead").glob("run-3-*/left"))
    assert [path.name for path in folders.abandoned()] == ["dead"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deaths, "explain", never)
        assert remains.collect() == 1
    assert [path.name for path in folders.root().iterdir()] == ["living"]
    assert kept.is_dir() and kept.parent.name == "living"
    living.close()
    assert list(folders.root().iterdir()) == []


def test_without_a_folder_of_the_worker_runs_have_theirs_all_the_same(tmp_path):
    made = WorkerFolder().of_run(7)
    assert made.is_dir() and made.parent == tmp_path


@pytest.mark.parametrize("how", ["link", "file"])
def test_a_place_that_somebody_else_has_prepared_is_not_used(tmp_path, how):
    place = tmp_path / f"scheduler-workers-{os.geteuid()}"
    if how == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.touch()
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        WorkerFolder().open("worker")


TOLD = {"signal": 9, "out_of_memory": True, "peak_mb": 80, "runs": {"3": 700}, "words": ""}


def left_by(worker: UUID, text: str) -> Path:
    path = folders.root() / str(worker)
    path.mkdir()
    (path / folders.DEATH).write_text(text)
    return path


def test_the_story_of_a_death_is_kept_until_the_runs_of_the_worker_are_judged(monkeypatch):
    told: list[tuple[UUID, Cause]] = []
    is_judged = False

    def explain(worker: UUID, cause: Cause) -> bool:
        told.append((worker, cause))
        return is_judged

    monkeypatch.setattr(deaths, "explain", explain)
    monkeypatch.setattr(remains, "_is_known", lambda _worker: True)
    worker = uuid4()
    path = left_by(worker, json.dumps(TOLD))
    assert remains.collect() == 0 and path.exists()
    is_judged = True
    assert remains.collect() == 1 and not path.exists()
    assert told[1] == (worker, Cause(9, True, 80, {3: 700}, ""))


@pytest.mark.django_db
def test_the_story_of_a_worker_of_another_installation_is_left_to_it_for_a_day(monkeypatch):
    monkeypatch.setattr(deaths, "explain", never)
    young, old = (left_by(uuid4(), json.dumps(TOLD)) for _ in range(2))
    yesterday = time.time() - 25 * 3600
    os.utime(old / folders.DEATH, (yesterday, yesterday))
    assert remains.collect() == 1 and young.exists() and not old.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"signal": 9}', '{"runs": 3}'])
def test_a_story_that_cannot_be_read_is_removed_with_its_folder(monkeypatch, text):
    monkeypatch.setattr(deaths, "explain", never)
    path = left_by(uuid4(), text)
    assert remains.collect() == 1 and not path.exists()
