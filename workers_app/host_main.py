"""A warm host process: executes registered callables one after another, for `workers_app.hosts`.

It reads packs of calls from one pipe and takes a token from a second before each call: the worker can take back the
tokens that are left, and with them the calls not begun. Results go out on a pipe too, gathered for a moment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

FLUSH_SECONDS = 0.05
MAX_OUTPUT_JSON = 64 * 1024
PIECE = 16 * 1024
MOST_WAITING = 1024 * 1024


class RunEnded(BaseException):
    """Raised in the callable when its run is to end; `finally` blocks still run."""


class Outbox:
    """Frames on their way to the worker: written at once when a pack ends, else after a moment by a thread, so that
    results do not wait behind a call that takes long."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._frames: list[str] = []
        self._size = 0
        self._filled = threading.Event()
        threading.Thread(target=self._flush_late, daemon=True).start()

    def put(self, frame: list[Any]) -> None:
        text = json.dumps(frame, separators=(",", ":"))
        with self._lock:
            self._frames.append(text)
            self._size += len(text)
        self._filled.set()
        # Never written here: a call that is ended in the middle of a write would tear the frame in two.
        while self._size > MOST_WAITING:
            time.sleep(0.001)

    def flush(self) -> None:
        with self._lock:
            frames, self._frames, self._size = self._frames, [], 0
            self._filled.clear()
            data = "".join(frame + "\n" for frame in frames).encode("utf-8", "replace")
            while data:
                data = data[os.write(self._fd, data) :]

    def _flush_late(self) -> None:
        while self._filled.wait():
            time.sleep(FLUSH_SECONDS)
            self.flush()


class Capture(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr while a callable runs."""

    def __init__(self, outbox: Outbox, stream: str) -> None:
        self._outbox, self._stream = outbox, stream
        self.place = -1

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        # In pieces: one frame of a hundred megabytes would be read and decoded as a whole.
        for start in range(0, len(text), PIECE):
            self._outbox.put(["out", self.place, self._stream, text[start : start + PIECE]])
        return len(text)


class Host:
    """The serving side: one pack after another until the request pipe closes."""

    def __init__(self, requests: io.TextIOBase, tokens: int, ends: int, results: int) -> None:
        self._requests, self._tokens, self._ends = requests, tokens, ends
        self._outbox = Outbox(results)
        self._captures = (Capture(self._outbox, "stdout"), Capture(self._outbox, "stderr"))
        self._callables = _load()
        # The place of the call under way, or -1.
        self._under_way = -1
        signal.signal(signal.SIGTERM, self._on_term)

    def serve(self) -> None:
        self._outbox.put(["ready"])
        self._outbox.flush()
        for line in self._requests:
            for place, name, params in json.loads(line):
                if not self._take_token():
                    break
                self._call(place, name, params)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            self._outbox.put(["end", peak])
            self._outbox.flush()

    def _take_token(self) -> bool:
        try:
            return bool(os.read(self._tokens, 1))
        except BlockingIOError:
            return False

    def _call(self, place: int, name: str, params: dict[str, Any]) -> None:
        function = self._callables.get(name)
        if function is None:
            self._outbox.put(["done", place, "unknown", f"{name} is not a registered callable.", ""])
            return
        try:
            with self._captured(place):
                value = function(**params)
            self._outbox.put(["done", place, "ok", _output(value), ""])
        except RunEnded:
            self._outbox.put(["done", place, "ended", "", ""])
        except BaseException as error:  # noqa: BLE001  (whatever a callable raises is a failed run, not a dead host)
            self._outbox.put(["done", place, "error", _sentence(error), _trace(error)])

    @contextlib.contextmanager
    def _captured(self, place: int) -> Iterator[None]:
        before = sys.stdout, sys.stderr
        for capture in self._captures:
            capture.place = place
        sys.stdout, sys.stderr = self._captures
        self._under_way = place
        try:
            yield
        finally:
            self._under_way = -1
            sys.stdout, sys.stderr = before

    def _on_term(self, _number: int, _frame: Any) -> None:
        """End the call that is meant: the signal may come when it is over and another one has begun."""
        meant = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._ends, 4096):
                meant += part
        if self._under_way >= 0 and str(self._under_way).encode() in meant.split():
            raise RunEnded


def _output(value: Any) -> Any:
    """The returned value as JSON of at most 64 KiB. Raises TypeError or ValueError, which fail the run."""
    if value is None:
        return None
    text = json.dumps(value, allow_nan=False)
    if len(text) > MAX_OUTPUT_JSON:
        raise ValueError(f"The returned value is {len(text)} bytes of JSON; at most {MAX_OUTPUT_JSON} are kept.")
    return value


def _trace(error: BaseException) -> str:
    """The traceback without our own frame at its top."""
    inner = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, inner))


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _load() -> dict[str, Callable[..., Any]]:
    import django

    django.setup()
    from tasks_app.callables import load_callables

    return load_callables()


def main() -> None:
    """Serve on the pipes whose numbers are the arguments: requests, tokens, calls to end, results."""
    requests, tokens, ends, results = (int(number) for number in sys.argv[1:5])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_site.settings")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_blocking(tokens, False)
    os.set_blocking(ends, False)
    # What a callable starts must not hold our pipes open.
    for fd in (requests, tokens, ends, results):
        os.set_inheritable(fd, False)
    Host(os.fdopen(requests, "r", encoding="utf-8"), tokens, ends, results).serve()


if __name__ == "__main__":
    main()
