"""A warm host process: executes registered callables one after another, for `workers_app.hosts`.

It reads packs of calls from one pipe and takes a token from a second before each call: the worker can take back the
tokens that are left, and with them the calls not begun. Results and output go out on a pipe too.
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
from pathlib import Path
from typing import Any

from access_app.masking import known, masks_of
from tasks_app.retry import exception_names
from workers_app.offspring import Offspring

MAX_OUTPUT_JSON = 64 * 1024
PIECE = 16 * 1024
MAX_NAMES = 50


class RunEnded(BaseException):
    """Raised in the callable when its run is to end; `finally` blocks still run."""


class Outbox:
    """Frames for the worker, each written before the next call begins: when a callable takes the process down with it,
    what the calls before it returned must not go down as well."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._main = threading.get_ident()
        self._writing = self._end_asked = False

    def put(self, frame: list[Any]) -> None:
        data = (json.dumps(frame, separators=(",", ":")) + "\n").encode()
        with self._lock:
            self._writing = threading.get_ident() == self._main
            while data:
                data = data[os.write(self._fd, data) :]
            self._writing = False
        if self._end_asked and threading.get_ident() == self._main:
            self._end_asked = False
            raise RunEnded

    def end_call(self) -> None:
        """Raise RunEnded; in the middle of a write only after it, as half a frame would be garbage to the worker."""
        if not self._writing:
            raise RunEnded
        self._end_asked = True


class Capture(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr while a callable runs; passes on whole lines."""

    def __init__(self, outbox: Outbox, stream: str) -> None:
        self._outbox, self._stream = outbox, stream
        self._begun = ""
        self.place = -1

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        whole, newline, rest = text.rpartition("\n")
        if newline:
            self._pass_on(self._begun + whole + newline)
            self._begun = rest
        else:
            self._begun += text
        if len(self._begun) > PIECE:
            self.finish()
        return len(text)

    def finish(self) -> None:
        """Pass on what has no newline at its end."""
        text, self._begun = self._begun, ""
        self._pass_on(text)

    def _pass_on(self, text: str) -> None:
        # In pieces: one frame of a hundred megabytes would be read and decoded as a whole.
        for start in range(0, len(text), PIECE):
            self._outbox.put(["out", self.place, self._stream, text[start : start + PIECE]])


class Host:
    """The serving side: one pack after another until the request pipe closes."""

    def __init__(self, requests: io.TextIOBase, tokens: int, ends: int, results: int) -> None:
        self._requests, self._tokens, self._ends = requests, tokens, ends
        self._outbox = Outbox(results)
        self._captures = (Capture(self._outbox, "stdout"), Capture(self._outbox, "stderr"))
        self._callables = _load()
        self._offspring = Offspring()
        # The place of the call under way, or -1.
        self._under_way = -1
        signal.signal(signal.SIGTERM, self._on_term)

    def serve(self) -> None:
        self._outbox.put(["ready"])
        for line in self._requests:
            for place, name, params, limits, secrets in json.loads(line):
                if not self._take_token():
                    break
                with _limited(limits), _given(secrets):
                    self._call(place, name, params)
                self._offspring.end()
            peak = _peak_bytes()
            self._outbox.put(["end", peak])

    def _take_token(self) -> bool:
        try:
            return bool(os.read(self._tokens, 1))
        except BlockingIOError:
            return False

    def _call(self, place: int, name: str, params: dict[str, Any]) -> None:
        function = self._callables.get(name)
        if function is None:
            self._outbox.put(["done", place, "unknown", f"{name} is not a registered callable.", "", 0.0])
            return
        began = time.monotonic()
        try:
            with self._captured(place):
                value = function(**params)
            self._outbox.put(["done", place, "ok", _output(value), "", time.monotonic() - began])
        except RunEnded:
            self._outbox.put(["done", place, "ended", "", "", time.monotonic() - began])
        except BaseException as error:  # noqa: BLE001  (whatever a callable raises is a failed run, not a dead host)
            taken = time.monotonic() - began
            names = exception_names(error)[:MAX_NAMES]
            self._outbox.put(["done", place, "error", _sentence(error), _trace(error), taken, *names])

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
            for capture in self._captures:
                capture.finish()
            sys.stdout, sys.stderr = before

    def _on_term(self, _number: int, _frame: Any) -> None:
        """End the call that is meant: the signal may come when it is over and another one has begun."""
        meant = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._ends, 4096):
                meant += part
        if self._under_way >= 0 and str(self._under_way).encode() in meant.split():
            self._outbox.end_call()


@contextlib.contextmanager
def _limited(limits: list[tuple[int, int, int]]) -> Iterator[None]:
    """With the limits (which, soft, hard) that a call has; ours are the soft ones, so that the next call has others."""
    before = []
    for which, soft, _hard in limits:
        # Time on the processors is counted from our own start; the worker looks after it.
        if which != resource.RLIMIT_CPU:
            now, most = resource.getrlimit(which)
            before.append((which, (now, most)))
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(which, (soft, most))
    try:
        yield
    finally:
        for which, both in before:
            resource.setrlimit(which, both)


@contextlib.contextmanager
def _given(secrets: dict[str, str]) -> Iterator[None]:
    """With the secrets of a call among the variables, and hidden in what is logged here; the next call has its own."""
    masks = masks_of(secrets.values())
    before = {name: os.environ.get(name) for name in secrets}
    os.environ.update(secrets)
    if masks is not None:
        known.add(masks)
    try:
        yield
    finally:
        if masks is not None:
            known.discard(masks)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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


def _peak_bytes() -> int:
    """The most memory that this process has held. Not ru_maxrss where that can be helped: it survives exec, and counts
    what the worker held when it started us."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
