"""Output outside the database: signatures, stores, the move there and reading from it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks_app import output_stores, run_output
from tasks_app.errors import OutputUnavailable
from tasks_app.forgetting import forget
from tasks_app.models import Run, RunOutput, StoredOutput
from tasks_app.output_stores import StoreFault, store_at
from tasks_app.output_stores.signature import Credentials, signed_headers
from tasks_app.states import RunState
from tests.tasks_app.command_line import refused, run_command
from tests.tasks_app.making import bring, make_task, plan

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def test_a_signature_is_that_of_the_published_example():
    """GET of an object, from the documentation of the signing process."""
    headers = signed_headers(
        "GET",
        "examplebucket.s3.amazonaws.com",
        "/test.txt",
        b"",
        Credentials(KEY, SECRET, "us-east-1"),
        now=datetime(2013, 5, 24, tzinfo=UTC),
        more={"range": "bytes=0-9"},
    )
    assert headers["authorization"].endswith("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
    assert SECRET not in str(headers) and SECRET not in repr(Credentials(KEY, SECRET, "us-east-1"))


class FakeS3(ThreadingHTTPServer):
    """A bucket in memory that believes no request without the right signature."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.is_broken = False


class _Handler(BaseHTTPRequestHandler):
    server: FakeS3

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        at = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        credentials = Credentials(KEY, SECRET, "eu-test-1")
        expected = signed_headers(self.command, self.headers["Host"], self.path, body, credentials, now=at, more={})
        if self.server.is_broken:
            self._answer(503, b"SlowDown")
        elif self.headers["Authorization"] != expected["authorization"]:
            self._answer(403, b"SignatureDoesNotMatch")
        elif self.command == "PUT":
            assert hashlib.sha256(body).hexdigest() == self.headers["x-amz-content-sha256"]
            self.server.objects[self.path] = body
            self._answer(200, b"")
        elif self.path not in self.server.objects:
            self._answer(404, b"NoSuchKey")
        elif self.command == "GET":
            self._answer(200, self.server.objects[self.path])
        else:
            del self.server.objects[self.path]
            self._answer(204, b"")

    do_GET = do_PUT = do_DELETE = _serve  # noqa: N815

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def bucket(settings) -> Iterator[FakeS3]:
    server = FakeS3()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.SCHEDULER_S3_ENDPOINT = f"http://127.0.0.1:{server.server_port}/"
    settings.SCHEDULER_S3_REGION = "eu-test-1"
    settings.SCHEDULER_S3_ACCESS_KEY, settings.SCHEDULER_S3_SECRET_KEY = KEY, SECRET
    store_at.cache_clear()
    run_output._read.cache_clear()
    yield server
    store = store_at("s3://logs/prod")
    if (client := getattr(store, "_client", None)) is not None:
        client.close()
    server.shutdown()
    server.server_close()
    store_at.cache_clear()


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> str:
    if request.param == "s3":
        request.getfixturevalue("bucket")
        settings.SCHEDULER_OUTPUT_STORE = "s3://logs/prod"
    else:
        settings.SCHEDULER_OUTPUT_STORE = f"file://{tmp_path}/outputs"
    run_output._read.cache_clear()
    return str(settings.SCHEDULER_OUTPUT_STORE)


def test_a_store_gives_back_what_it_was_given_and_forgets_it(place):
    store = store_at(place)
    assert store is not None
    store.put("runs/1/a.gz", b"one")
    store.put("runs/1/a.gz", b"two")
    assert store.get("runs/1/a.gz") == b"two"
    store.delete("runs/1/a.gz")
    store.delete("runs/1/a.gz")
    with pytest.raises(StoreFault):
        store.get("runs/1/a.gz")


def test_s3_objects_lie_below_the_prefix_and_a_wrong_key_opens_nothing(bucket, settings):
    store = store_at("s3://logs/prod")
    assert store is not None
    store.put("runs/7.gz", b"x")
    assert list(bucket.objects) == ["/logs/prod/runs/7.gz"]
    settings.SCHEDULER_S3_SECRET_KEY = "wrong"
    store_at.cache_clear()
    other = store_at("s3://logs/prod")
    assert other is not None
    with pytest.raises(StoreFault, match="answered 403"):
        other.get("runs/7.gz")


def test_a_directory_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    store = store_at(f"file://{tmp_path}/file")
    assert store is not None
    with pytest.raises(StoreFault, match="file"):
        store.put("runs/1.gz", b"x")


def spoken(number: int, *, state: RunState = RunState.SUCCEEDED, truncated: bool = False) -> Run:
    """A run with so many lines of output."""
    (id,) = plan(make_task())
    bring(id, state)
    run = Run.objects.get(pk=id)
    for first in range(0, number, 400):
        lines = [["2026-03-02T12:00:00Z", "stdout", f"line {n} ü"] for n in range(first, min(first + 400, number))]
        RunOutput.objects.create(
            run=run, attempt=1, first_line=first, line_count=len(lines), lines=lines, truncated=truncated and first == 0
        )
    return run


@pytest.mark.django_db
def test_moved_output_reads_as_before_and_is_gone_from_the_database(place):
    run, other = spoken(1000, truncated=True), spoken(10)
    wanted: dict[str, Any] = {
        "window": run_output.log_lines(run, offset=390, limit=20),
        "end": run_output.log_lines(run, offset=990, limit=50),
        "beyond": run_output.log_lines(run, offset=1000, limit=50),
        "found": run_output.find_lines(run, 1, "LINE 77", limit=5),
        "count": run_output.line_count(run, 1),
        "truncated": run_output.log_truncated(run),
    }
    store = output_stores.configured()
    assert store is not None
    assert run_output.move_out(run.pk, 1, store) > 0
    assert run_output.move_out(run.pk, 1, store) == 0, "there is nothing left to move"
    assert set(RunOutput.objects.values_list("run", flat=True)) == {other.pk}
    (row,) = StoredOutput.objects.all()
    assert (row.run_id, row.line_count, row.store) == (run.pk, 1000, place)
    assert wanted == {
        "window": run_output.log_lines(run, offset=390, limit=20),
        "end": run_output.log_lines(run, offset=990, limit=50),
        "beyond": run_output.log_lines(run, offset=1000, limit=50),
        "found": run_output.find_lines(run, 1, "LINE 77", limit=5),
        "count": 1000,
        "truncated": True,
    }
    assert wanted["window"][0][0]["n"] == 390 and wanted["window"][0][0]["text"] == "line 390 ü"
    assert run_output.log_lines(run, offset=0, limit=5, attempt=2) == ([], 0)


@pytest.mark.django_db
def test_output_stays_where_it_is_when_the_store_refuses_it(bucket, settings):
    settings.SCHEDULER_OUTPUT_STORE = "s3://logs/prod"
    run = spoken(10)
    bucket.is_broken = True
    store = output_stores.configured()
    assert store is not None
    with pytest.raises(StoreFault, match="503"):
        run_output.move_out(run.pk, 1, store)
    assert run_output.line_count(run, 1) == 10 and not StoredOutput.objects.exists()
    bucket.is_broken = False
    run_output.move_out(run.pk, 1, store)
    bucket.is_broken = True
    with pytest.raises(OutputUnavailable, match="does not answer"):
        run_output.log_lines(run, offset=0, limit=5)


@pytest.mark.django_db
def test_the_command_moves_what_is_large_and_over_and_nothing_else(place):
    large, small, running = spoken(1000), spoken(2), spoken(1000, state=RunState.RUNNING)
    assert "1, " in run_command("move_output", "--larger-than", "5000")
    assert [row.run_id for row in StoredOutput.objects.all()] == [large.pk]
    assert set(RunOutput.objects.values_list("run", flat=True)) == {small.pk, running.pk}


@pytest.mark.django_db
def test_the_objects_of_deleted_runs_are_removed_and_no_others(place, django_capture_on_commit_callbacks):
    store = output_stores.configured()
    assert store is not None
    gone, kept, plain = spoken(10), spoken(10), spoken(10)
    for run in (gone, kept):
        run_output.move_out(run.pk, 1, store)
    keys = dict(StoredOutput.objects.values_list("run", "key"))
    with django_capture_on_commit_callbacks() as after:
        assert forget([gone.pk, plain.pk]) == 2
    assert store.get(keys[gone.pk]), "a transaction that is rolled back must find it again"
    for step in after:
        step()
    with pytest.raises(StoreFault):
        store.get(keys[gone.pk])
    assert store.get(keys[kept.pk])
    assert list(StoredOutput.objects.values_list("run", flat=True)) == [kept.pk]


@pytest.mark.django_db
def test_a_store_that_does_not_answer_keeps_no_run_from_being_deleted(
    bucket, settings, django_capture_on_commit_callbacks
):
    settings.SCHEDULER_OUTPUT_STORE = "s3://logs/prod"
    store = output_stores.configured()
    assert store is not None
    run = spoken(10)
    run_output.move_out(run.pk, 1, store)
    bucket.is_broken = True
    with django_capture_on_commit_callbacks(execute=True):
        assert forget([run.pk]) == 1
    assert not Run.objects.filter(pk=run.pk).exists() and len(bucket.objects) == 1


@pytest.mark.django_db
def test_output_of_a_run_that_is_deleted_meanwhile_leaves_neither_row_nor_object(bucket, settings, monkeypatch):
    settings.SCHEDULER_OUTPUT_STORE = "s3://logs/prod"
    store = output_stores.configured()
    assert store is not None
    run = spoken(10)
    put = store.put

    def put_and_delete(key: str, data: bytes) -> None:
        put(key, data)
        assert forget([run.pk]) == 1

    monkeypatch.setattr(store, "put", put_and_delete)
    assert run_output.move_out(run.pk, 1, store) == 0
    assert not StoredOutput.objects.exists() and not bucket.objects


@pytest.mark.django_db
def test_without_a_store_there_is_nothing_to_move_to(settings):
    settings.SCHEDULER_OUTPUT_STORE = "database"
    assert output_stores.configured() is None
    assert refused("move_output").returncode == 2
