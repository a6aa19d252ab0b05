#!/usr/bin/env python3
"""A worker for a machine that reaches only the web port of the scheduler. One file, standard library, Python 3.9.

    SCHEDULER_WORKER_KEY=dts_worker_... python3 agent.py --url https://scheduler.example --slots 4 --label zone=edge

It asks for runs, starts their processes, sends their output while they write it, and tells how they ended; what that
means is decided by the server. TERM or INT: it takes nothing new, lets its runs end within the grace, ends the others
and leaves. A second process, the guardian, ends the processes of the runs when the agent dies, and when it could not
renew its lease in time: by then its runs are about to be given to others. The protocol: docs/agents.md.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import html
import json
import logging
import os
import pwd
import re
import select
import selectors
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VERSION = "2"
MARK = "SCHEDULER_WORKER"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REQUEST_SECONDS = 10.0
SEND_SECONDS = 0.3
AGAIN_SECONDS = 1.0
LONGEST_PAUSE = 30.0
# By so much the lease ends earlier here than on the server.
MARGIN_SECONDS = 1.0
# What the descendants of a process that has ended still write is read for this long.
LINGER_SECONDS = 1.0
# Lines of one request, and about how many bytes; a server takes 5,000 lines and 10 MB.
MOST_LINES, MOST_BYTES = 2000, 1024 * 1024
# A line costs its time and stream as well; without counting them a flood of empty lines would be free.
LINE_COST = 24
LONGEST_RESULT = 64 * 1024
log = logging.getLogger("agent")
Json = dict[str, Any]
Line = tuple[float, str, str]


def clock() -> float:
    """Seconds that also pass while the machine sleeps: the lease goes on meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


# --- talking to the server --------------------------------------------------------------------------------------------


class Refused(Exception):
    """The server has said no: it would say so again."""

    def __init__(self, status: int, content: Json) -> None:
        self.status, self.content = status, content
        self.code = str(content.get("code", ""))
        errors = content.get("errors") or ""
        super().__init__(f"{status} {self.code}: {content.get('detail', '')} {errors}".strip())


class Unreachable(Exception):
    """The server did not answer, or could not: the next time it may."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to whoever it names."""

    def redirect_request(self, *_args: Any, **_options: Any) -> None:
        return None


class Server:
    """Calls of the protocol. They raise Refused or Unreachable."""

    def __init__(self, url: str, key: str, ca_file: str | None = None) -> None:
        self._url, self._key = url.rstrip("/"), key
        context = ssl.create_default_context(cafile=ca_file)
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), NoRedirects)

    def post(self, path: str, body: Json, seconds: float = REQUEST_SECONDS) -> Json:
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "User-Agent": f"scheduler-agent/{VERSION}",
        }
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/api/workers{path}", data, headers, method="POST")
        try:
            with self._opener.open(request, timeout=seconds) as answer:
                content: Json = json.loads(answer.read() or b"{}")
                return content
        except urllib.error.HTTPError as error:
            with error:
                problem = _problem(error.read())
            # Too slow, too often, or wrong on the other side: that passes.
            if error.code in (408, 429) or error.code >= 500:
                raise Unreachable(f"{error.code} {problem.get('detail', '')}".strip()) from None
            raise Refused(error.code, problem) from None
        except Exception as error:  # of sockets, of TLS, and of http.client for answers that are none
            raise Unreachable(f"{type(error).__name__}: {error}") from None


def _problem(data: bytes) -> Json:
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {"detail": data[:200].decode("utf-8", "replace")}


# --- the guardian -----------------------------------------------------------------------------------------------------


class Guardian:
    """A process that outlives the agent just long enough to end the processes of its runs.

    It is told who the agent is (`=MARK`), which process groups it leads (`+PID`, `-PID`) and for how long its lease
    holds (`LSECONDS`, 0: there is none). When the pipe closes the agent is gone. Forked before there is any thread; it
    needs neither this file nor an interpreter later on.
    """

    def __init__(self) -> None:
        reader, self._pipe = os.pipe()
        self._lock = threading.Lock()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._pipe)
                guard(reader)
            finally:
                os._exit(0)
        os.close(reader)

    def introduce(self, mark: str) -> None:
        self._tell(f"={mark}")

    def add(self, pid: int) -> None:
        self._tell(f"+{pid}")

    def remove(self, pid: int) -> None:
        """Call it before the process is reaped: afterwards its number may be somebody else's."""
        self._tell(f"-{pid}")

    def hold(self, seconds: float) -> None:
        self._tell(f"L{seconds:.3f}")

    def close(self) -> None:
        with self._lock:
            os.close(self._pipe)
        os.waitpid(self.pid, 0)

    def _tell(self, line: str) -> None:
        with self._lock:
            try:
                os.write(self._pipe, f"{line}\n".encode())
            except BrokenPipeError:
                # Without it nobody would end the runs if this process died.
                log.critical("the guardian is gone: leaving at once")
                os._exit(70)


def guard(reader: int) -> None:
    """The life of the guardian."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # In a session of its own, so that what kills the group of the agent does not kill the guardian with it.
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    mark, rest = "", b""
    groups: set[int] = set()
    until: float | None = None
    while True:
        # Looked at every second: a wait does not go on while the machine sleeps.
        wait = None if until is None else min(max(until - clock(), 0.0), 1.0)
        if not select.select([reader], [], [], wait)[0]:
            if until is not None and clock() >= until:
                end_all(groups, mark)
                until = None
            continue
        data = os.read(reader, 65536)
        if not data:
            break
        # What has no newline at its end was being written when the agent died.
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            kind, value = line[:1], line[1:].decode()
            if kind == b"=":
                mark = value
                groups.clear()
            elif kind == b"+":
                groups.add(int(value))
            elif kind == b"-":
                groups.discard(int(value))
            elif kind == b"L":
                until = clock() + float(value) if float(value) > 0 else None
    end_all(groups, mark)


def end_all(groups: Iterable[int], mark: str) -> None:
    for group in groups:
        send_signal(group, signal.SIGKILL)
    end_marked(mark)


def end_marked(mark: str, **more: Any) -> None:
    """End the processes that carry the mark of this worker in their environment, wherever they went; with `more`, those
    that carry these variables too. On Linux; elsewhere a process that leaves its group is not found."""
    wanted = {f"{name}={value}".encode() for name, value in {MARK: mark, **more}.items()}
    own = {os.getpid(), os.getppid()}
    names = os.listdir("/proc") if mark and os.path.isdir("/proc") else []
    for pid in {int(name) for name in names if name.isdigit()} - own:
        # Gone meanwhile, or another user's.
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/environ", "rb") as file:
                carries = wanted <= set(file.read().split(b"\0"))
            if carries:
                os.kill(pid, signal.SIGKILL)


def send_signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def has_ended(pid: int) -> bool:
    """Whether our child has ended; does not reap it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


# --- secrets ----------------------------------------------------------------------------------------------------------

MASK = "***"
# What is shorter is a word or a number that stands everywhere.
LEAST_BYTES = 6
# base64(1), openssl and MIME break lines after so many characters.
_WRAPS = (64, 76)
# A line without an end is looked at when so much of it has come.
_MOST_HELD = 64 * 1024
_MASK = MASK.encode()
_HEX = re.compile("%[0-9A-F]{2}")


class Masks:
    """The forms of some values, such as base64. As access_app/masking.py on the server has them, which says why."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {form for value in values for form in _forms(value)}
        self._forms = tuple(sorted((form for form in found if len(form) >= LEAST_BYTES), key=len, reverse=True))
        # How much of a stream may be the beginning of something that is not whole yet.
        self.reach = max((len(form) for form in self._forms), default=1) - 1

    def __bool__(self) -> bool:
        return bool(self._forms)

    def data(self, data: bytes) -> bytes:
        """The bytes with every form replaced."""
        return self.replaced(data, self.spans(data), len(data))[0]

    def text(self, text: str) -> str:
        raw = text.encode("utf-8", "surrogatepass")
        spans = self.spans(raw)
        return self.replaced(raw, spans, len(raw))[0].decode("utf-8", "surrogatepass") if spans else text

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where forms are, in order; those that overlap are one."""
        found: list[tuple[int, int]] = []
        for form in self._forms:
            start = data.find(form)
            while start >= 0:
                found.append((start, start + len(form)))
                start = data.find(form, start + 1)
        return _merged(found) if found else found

    @staticmethod
    def replaced(data: bytes, spans: Iterable[tuple[int, int]], upto: int, covered: int = 0) -> tuple[bytes, int]:
        """The first `upto` bytes with the spans replaced, and how many bytes after them belong to a span that began
        before. The first `covered` bytes were replaced already."""
        parts, end = [], 0
        for start, stop in _merged([(0, covered), *spans]) if covered else spans:
            if start >= upto:
                break
            parts.append(data[end:start])
            if not (covered and start == 0):
                parts.append(_MASK)
            end = stop
        parts.append(data[end:upto])
        return b"".join(parts), max(end - upto, 0)


class MaskedStream:
    """One stream of bytes, cut anywhere, with every form replaced. A line is passed on when it is whole; of one without
    an end only as much is kept back as a form can be long, once more has come than is worth waiting for."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._held = bytearray()
        # How much at the beginning of what is held was replaced already.
        self._covered = 0
        self._most = masks.reach + _MOST_HELD

    def feed(self, data: bytes) -> bytes:
        """Take raw bytes; gives what can be passed on by now."""
        end = data.rfind(b"\n") + 1
        if end:
            whole = bytes(self._held) + data[:end]
            passed, _rest = self._masks.replaced(whole, self._masks.spans(whole), len(whole), self._covered)
            self._held[:] = data[end:]
            self._covered = 0
        else:
            passed = b""
            self._held += data
        return passed + self._shortened() if len(self._held) > self._most else passed

    def finish(self) -> bytes:
        """What is left, at the end of the stream."""
        held, covered = bytes(self._held), self._covered
        self._held.clear()
        self._covered = 0
        return self._masks.replaced(held, self._masks.spans(held), len(held), covered)[0]

    def _shortened(self) -> bytes:
        held = bytes(self._held)
        upto = len(held) - self._masks.reach
        passed, self._covered = self._masks.replaced(held, self._masks.spans(held), upto, self._covered)
        self._held[:] = held[upto:]
        return passed


def _forms(value: str) -> Iterator[bytes]:
    yield from _encoded(value)
    for line in value.splitlines():
        if (stripped := line.strip()) != value:
            yield from _encoded(stripped)
    try:
        password = urllib.parse.urlsplit(value).password
    except ValueError:
        password = None
    if password:
        # Of a connection, which is shown without it or in other words.
        yield from _encoded(password)
        yield from _encoded(urllib.parse.unquote(password))


def _encoded(value: str) -> Iterator[bytes]:
    if len(value.encode()) < LEAST_BYTES:
        return
    quoted = {urllib.parse.quote(value, safe=safe) for safe in ("/", "", "!'()*")} | {urllib.parse.quote_plus(value)}
    texts = {value, *quoted, *(_HEX.sub(lambda found: found[0].lower(), text) for text in quoted)}
    texts |= {repr(value)[1:-1], html.escape(value), value.replace("'", "'\\''"), value.replace("'", "'\"'\"'")}
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        texts |= {escaped, escaped.replace("/", "\\/"), json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]}
    yield from (text.encode() for text in texts if "\n" not in text and "\r" not in text)
    raw = value.encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield from _base64(raw)


def _base64(raw: bytes) -> Iterator[bytes]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for data in (raw, raw + b"\n"):
            whole = encode(data)
            yield whole
            for width in _WRAPS if len(whole) > min(_WRAPS) else ():
                yield from (whole[start : start + width] for start in range(0, len(whole), width))
        # In the middle of something longer, such as user:password: the characters that are the value's alone.
        for before in range(3):
            first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
            yield encode(bytes(before) + raw)[first:last]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    spans.sort()
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


# --- output -----------------------------------------------------------------------------------------------------------


class Output:
    """The lines of one attempt, numbered; memory stays below the cap whatever is thrown at it.

    The first half of the cap is passed on at once. After that the newest output is kept back raw, up to the other half,
    and comes at the end behind a line that says how much was left out.
    """

    def __init__(self, cap: int, line_bytes: int, masks: Masks | None = None) -> None:
        self._lock = threading.Lock()
        self._masks = masks
        self._masked: dict[str, MaskedStream] = {}
        self._line_bytes = line_bytes
        self._head_left = cap // 2
        self._tail_most = cap - cap // 2
        self._tail: deque[tuple[float, str, bytes]] = deque()
        self._tail_size = self._left_out = 0
        self._torn: set[str] = set()
        # By stream: the line under way, and how much of it was too much.
        self._partial: dict[str, tuple[bytes, int]] = {}
        self._waiting: deque[Line] = deque()
        self._next = 0
        self._marker: int | None = None
        self._last, self._last_over = b"", False
        self._closed = False
        # The last line of stdout that is not blank, unless it is too long to be a result.
        self.result = ""

    def feed(self, stream: str, data: bytes) -> None:
        """Take raw bytes of a stream; lines may be cut anywhere."""
        with self._lock:
            if self._masks is not None:
                if stream not in self._masked:
                    self._masked[stream] = MaskedStream(self._masks)
                data = self._masked[stream].feed(data)
            self._take(stream, data)

    def _take(self, stream: str, data: bytes) -> None:
        if stream == "stdout":
            self._watch_result(data)
        while data and self._head_left > 0:
            piece, newline, data = data.partition(b"\n")
            self._extend(stream, piece)
            if newline:
                self._into_head(clock(), stream, self._whole(stream))
        if data:
            self._into_tail(stream, data)

    def note(self, text: str) -> None:
        """Add a line of our own."""
        with self._lock:
            if self._head_left > 0:
                self._into_head(clock(), "system", text)
            else:
                self._into_tail("system", f"{text}\n".encode())

    def close(self) -> None:
        """Take what has no newline at its end, then the tail."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for stream, masked in self._masked.items():
                self._take(stream, masked.finish())
            self._watch_result(b"\n")
            lines = list(self._tail_lines())
            lines += [(clock(), stream, self._whole(stream)) for stream in list(self._partial)]
            if self._left_out:
                self._marker = self._next + len(self._waiting)
                self._append(clock(), "system", f"… {self._left_out:,} bytes of output were left out here …")
            for at, stream, text in lines:
                self._append(at, stream, text)

    def batch(self) -> tuple[int, list[list[Any]], bool]:
        """What to send next, without taking it away: the number of the first line, the lines as the server takes them,
        whether the first of them is the one that says how much was left out."""
        with self._lock:
            lines: list[list[Any]] = []
            size, now = 0, clock()
            for place, (at, stream, text) in enumerate(self._waiting, self._next):
                if lines and (place == self._marker or len(lines) >= MOST_LINES or size >= MOST_BYTES):
                    break
                lines.append([round(max(now - at, 0.0), 3), stream, text])
                size += len(text) + LINE_COST
            return self._next, lines, bool(lines) and self._next == self._marker

    def sent(self, upto: int) -> None:
        """The server has all lines before this number. Fewer than it had once: then the others are lost."""
        with self._lock:
            while self._next < upto and self._waiting:
                self._waiting.popleft()
                self._next += 1
            if upto < self._next:
                self._marker = None if self._marker is None else self._marker - self._next + upto
                self._next = upto

    def give_up(self) -> None:
        """Keep nothing more: the server takes no more."""
        with self._lock:
            self._waiting.clear()
            self._tail.clear()
            self._head_left = self._tail_most = self._tail_size = 0

    def _extend(self, stream: str, piece: bytes) -> None:
        held, over = self._partial.get(stream, (b"", 0))
        room = self._line_bytes - len(held)
        self._partial[stream] = (held + piece[:room], over + max(len(piece) - room, 0))

    def _whole(self, stream: str) -> str:
        held, over = self._partial.pop(stream, (b"", 0))
        text = (held[:-1] if held.endswith(b"\r") else held).decode("utf-8", "replace")
        return f"{text} … {over:,} bytes of this line were left out" if over else text

    def _append(self, at: float, stream: str, text: str) -> None:
        # A NUL is nothing that a database keeps as text.
        self._waiting.append((at, stream, text.replace("\0", "\ufffd")))

    def _into_head(self, at: float, stream: str, text: str) -> None:
        self._head_left -= len(text) + LINE_COST
        self._append(at, stream, text)

    def _into_tail(self, stream: str, data: bytes) -> None:
        """Keep it raw: cutting a flood into lines that are thrown away next would cost seconds per megabyte."""
        if stream in self._partial:
            held, _over = self._partial.pop(stream)
            data = held + data
        # So small that even one of empty lines is a small part of what is kept.
        step = max(min(4096, self._tail_most // 200), 16)
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self._tail.append((clock(), stream, piece))
            self._tail_size += self._cost(piece)
        while self._tail_size > self._tail_most and self._tail:
            _at, torn, piece = self._tail.popleft()
            self._tail_size -= self._cost(piece)
            self._left_out += len(piece)
            if piece.endswith(b"\n"):
                self._torn.discard(torn)
            else:
                self._torn.add(torn)

    def _tail_lines(self) -> Iterable[Line]:
        for at, stream, raw in self._tail:
            *whole, rest = self._mended(stream, raw).split(b"\n")
            for part in whole:
                self._extend(stream, part)
                yield at, stream, self._whole(stream)
            if rest:
                self._extend(stream, rest)
        self._tail.clear()

    def _mended(self, stream: str, raw: bytes) -> bytes:
        """The piece without what remains of a line whose beginning was left out."""
        if stream not in self._torn:
            return raw
        torn, newline, rest = raw.partition(b"\n")
        self._left_out += len(torn) + len(newline)
        if newline:
            self._torn.discard(stream)
        return rest

    @staticmethod
    def _cost(piece: bytes) -> int:
        return len(piece) + LINE_COST * piece.count(b"\n") + 100

    def _watch_result(self, data: bytes) -> None:
        before, newline, after = data.rpartition(b"\n")
        if newline:
            *_others, last = before.rstrip().rsplit(b"\n", 1)
            if b"\n" in before.rstrip():
                self._last, self._last_over = b"", False
            self._hold_result(last)
            if self._last.strip():
                self.result = "" if self._last_over else self._last.decode("utf-8", "replace").replace("\0", "\ufffd")
            self._last, self._last_over = b"", False
        self._hold_result(after)

    def _hold_result(self, piece: bytes) -> None:
        room = LONGEST_RESULT - len(self._last)
        self._last_over = self._last_over or len(piece) > room
        self._last += piece[:room]


# --- one run ----------------------------------------------------------------------------------------------------------


class Broken(Exception):
    """The command cannot be started; `kind` as the server knows it."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


class Run:
    """One attempt, from claim to the answer to its end."""

    URGENCY = {"cancel": 0, "stopping": 0, "kill": 1, "lost": 2}

    def __init__(self, agent: Agent, spec: Json) -> None:
        self._agent, self.spec = agent, spec
        self.pair: tuple[int, int] = (spec["id"], spec["attempt"])
        environment = spec["environment"]
        self._masks = Masks(environment[name] for name in spec.get("secrets", ()))
        self.output = Output(spec["output_bytes"], spec["line_bytes"], self._masks or None)
        self.how: str | None = None
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._reader, self._writer = os.pipe()
        self.thread = threading.Thread(target=self._life, name=f"run-{spec['id']}", daemon=True)

    def end(self, how: str) -> None:
        """Ask it to end; what is more urgent outranks what was asked before."""
        with self._lock:
            if self.how is not None and self.URGENCY[how] <= self.URGENCY[self.how]:
                return
            self.how = how
            if self._writer >= 0:
                os.write(self._writer, b"!")

    def send(self) -> None:
        """Send the lines that wait. Raises Unreachable or Refused."""
        with self._sending:
            while True:
                first, lines, truncated = self.output.batch()
                if not lines:
                    return
                body: Json = {"attempt": self.pair[1], "offset": first, "lines": lines, "truncated": truncated}
                try:
                    answer = self._agent.call(f"/runs/{self.pair[0]}/log", body)
                    self.output.sent(answer["next_offset"])
                except Refused as error:
                    if error.code == "output_full":
                        self.output.give_up()
                    elif error.code == "output_gap":
                        self.output.sent(error.content["next_offset"])
                    else:
                        raise

    def _life(self) -> None:
        try:
            facts = self._execute()
        except Broken as error:
            facts = {"failure": error.kind, "detail": self._masks.text(str(error))[:1000]}
        except Exception as error:
            log.exception("run %s attempt %s", *self.pair)
            facts = {"failure": "internal", "detail": self._masks.text(f"{type(error).__name__}: {error}")[:1000]}
        with self._lock:
            os.close(self._reader)
            os.close(self._writer)
            self._writer = -1
        self.output.close()
        if facts.get("exit_code") == 0:
            facts["last_line"] = self.output.result
        try:
            self._report(facts)
        finally:
            self._agent.over(self)

    def _report(self, facts: Json) -> None:
        """Tell the end, trying for as long as the lease holds."""
        while self.how != "lost" and self._agent.holds_lease():
            try:
                self.send()
                body = {"attempt": self.pair[1], "lines": self.output.batch()[0], **facts}
                answer = self._agent.call(f"/runs/{self.pair[0]}/finish", body)
                log.info("run %s attempt %s: %s", *self.pair, answer["state"])
                return
            except Unreachable as error:
                log.warning("the end of run %s cannot be told: %s", self.pair[0], error)
                self._agent.dead.wait(AGAIN_SECONDS)
            except Refused as error:
                if error.code != "output_gap":
                    log.warning("run %s attempt %s is over for this worker: %s", *self.pair, error)
                    return
                self.output.sent(error.content["next_offset"])

    def _execute(self) -> Json:
        argv = self._command()
        folder = tempfile.mkdtemp(prefix=f"run-{self.pair[0]}-")
        try:
            child = subprocess.Popen(
                argv,
                env=self._environment(folder),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            ended_by = Watch(self, child, self._agent, self._reader).until_ended()
            return {"exit_code": child.returncode, "ended_by": ended_by}
        except OSError as error:
            kind = "command_missing" if isinstance(error, (FileNotFoundError, PermissionError)) else "internal"
            raise Broken(kind, f"The command could not be started: {error}.") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _command(self) -> list[str]:
        command: str = self.spec["command"]
        if self.spec["executor"] == "shell":
            return ["/bin/sh", "-c", command]
        script, *arguments = shlex.split(command)
        scripts = os.path.realpath(self._agent.scripts)
        path = os.path.realpath(os.path.join(scripts, script))
        if os.path.commonpath([scripts, path]) != scripts:
            raise Broken("script_outside", f"{script} lies outside the scripts folder.")
        if not os.path.isfile(path):
            raise Broken("script_missing", f"There is no script {script} in {scripts} on this worker.")
        return [sys.executable, path, *arguments]

    def _environment(self, folder: str) -> dict[str, str]:
        """Built from empty: nothing of the agent's own, its key above all, leaks into a run."""
        try:
            entry = pwd.getpwuid(os.geteuid())
            user, home = entry.pw_name, entry.pw_dir
        except KeyError:
            user, home = str(os.geteuid()), "/"
        own = {"PATH": PATH, "HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "LANG": "C.UTF-8"}
        if self.spec["executor"] == "python":
            own.update({"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"})
        return {**own, **self.spec["environment"], MARK: self._agent.id, "TMPDIR": folder, "PWD": folder}


class Watch:
    """Waits on the pipes of a child, its exit, the clock and what is asked, in one selector."""

    def __init__(self, run: Run, child: subprocess.Popen[bytes], agent: Agent, asked: int) -> None:
        self._run, self._child, self._guardian, self._asked = run, child, agent.guardian, asked
        self._mark = agent.id
        self._deadline = clock() + run.spec["timeout_seconds"]
        self._kill_at: float | None = None
        self._linger_until: float | None = None
        self._ended_by = ""
        self._selector = selectors.DefaultSelector()
        self._open = 0
        self._exit = -1

    def until_ended(self) -> str:
        """By whom it was ended, "" for itself. Nothing of its group survives, nor what has left the group."""
        child, (run_id, attempt) = self._child, self._run.pair
        try:
            self._guardian.add(child.pid)
            self._register()
            while not self._over():
                for key, _events in self._selector.select(self._wait()):
                    self._handle(key)
                self._look_at_the_clock()
            return self._ended_by
        finally:
            # Until the child is reaped its number belongs to nobody else: no signal can hit a stranger.
            send_signal(child.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            self._guardian.remove(child.pid)
            child.wait()
            self._selector.close()
            if self._exit >= 0:
                os.close(self._exit)
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
            end_marked(self._mark, SCHEDULER_RUN_ID=run_id, SCHEDULER_ATTEMPT=attempt)

    def _register(self) -> None:
        for stream, pipe in (("stdout", self._child.stdout), ("stderr", self._child.stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, stream)
            self._open += 1
        self._selector.register(self._asked, selectors.EVENT_READ, "asked")
        # Without it (before Linux 5.3, on other systems) the exit is looked for ten times a second.
        with contextlib.suppress(OSError, AttributeError):
            self._exit = os.pidfd_open(self._child.pid)
            self._selector.register(self._exit, selectors.EVENT_READ, "exit")

    def _over(self) -> bool:
        if not has_ended(self._child.pid):
            return False
        if self._linger_until is None:
            self._linger_until = clock() + LINGER_SECONDS
        return self._open == 0 or clock() >= self._linger_until

    def _wait(self) -> float:
        moments = [moment for moment in (self._kill_at, self._linger_until) if moment is not None]
        if not self._ended_by:
            moments.append(self._deadline)
        most = 5.0 if self._exit >= 0 and self._linger_until is None else 0.1
        return max(min([most, *(moment - clock() for moment in moments)]), 0.0)

    def _handle(self, key: selectors.SelectorKey) -> None:
        if key.data == "asked":
            os.read(self._asked, 16)
            self._end(self._run.how or "cancel")
        elif key.data == "exit":
            self._selector.unregister(key.fileobj)
        else:
            try:
                data = os.read(key.fd, 65536)
            except BlockingIOError:
                return
            if data:
                self._run.output.feed(key.data, data)
            else:
                self._selector.unregister(key.fileobj)
                self._open -= 1

    def _look_at_the_clock(self) -> None:
        now = clock()
        if not self._ended_by and now >= self._deadline and not has_ended(self._child.pid):
            self._end("timeout")
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            send_signal(self._child.pid, signal.SIGKILL)

    def _end(self, how: str) -> None:
        if how in ("kill", "lost"):
            self._ended_by = self._ended_by if self._ended_by == "timeout" else how
            self._run.output.note("Killing the process group.")
            send_signal(self._child.pid, signal.SIGKILL)
        elif not self._ended_by:
            self._ended_by = how
            self._run.output.note(f"Ending the process group: {how}.")
            send_signal(self._child.pid, signal.SIGTERM)
            self._kill_at = clock() + self._run.spec["kill_grace_seconds"]


# --- the agent --------------------------------------------------------------------------------------------------------


class Agent:
    """One registration: a worker from here to its end. `live` returns why it is over: "left", "lost" or "refused"."""

    def __init__(self, server: Server, guardian: Guardian, wish: Json, scripts: str, grace: float) -> None:
        asked_at = clock()
        answer = server.post("", wish)
        self.id: str = answer["id"]
        self.guardian, self.scripts = guardian, scripts
        self._server, self._grace = server, grace
        self._state: str = answer["state"]
        self._poll_seconds: float = answer["poll_seconds"]
        self._heartbeat_seconds: float = answer["heartbeat_seconds"]
        self._lease_end = asked_at
        self._load = Load()
        self._lock = threading.Lock()
        self._runs: dict[tuple[int, int], Run] = {}
        self._leaving = False
        self._why = "left"
        self._poll_now = threading.Event()
        # Set when this worker is over, whatever for.
        self.dead = threading.Event()
        guardian.introduce(self.id)
        self._renewed(asked_at, answer["lease_seconds"])
        log.info("ready: worker %s (%s) of the pool %s", answer["name"], self.id, answer["pool"])

    def live(self, stop: threading.Event, hurry: threading.Event) -> str:
        steps = (self._poll, self._beat, self._send)
        threads = [threading.Thread(target=self._guarded, args=(step,), daemon=True) for step in steps]
        for thread in threads:
            thread.start()
        until: float | None = None
        while not self.dead.wait(0.1):
            if stop.is_set() and until is None:
                log.info("leaving: up to %g s for %d runs", self._grace, len(self._held()))
                until = clock() + self._grace
                self._leaving = True
            if (self._leaving or self._state == "draining") and not self._held():
                break
            if until is not None and (clock() >= until or hurry.is_set()):
                self._end_all("stopping")
        if not self.dead.is_set():
            with contextlib.suppress(Refused, Unreachable):
                self.call("/leave", {})
            self.dead.set()
        self._end_all("lost")
        self._poll_now.set()
        for thread in [*threads, *(run.thread for run in self._all())]:
            thread.join(timeout=REQUEST_SECONDS + 5)
        self.guardian.hold(0)
        return self._why

    def call(self, path: str, body: Json, seconds: float = REQUEST_SECONDS) -> Json:
        """A call as this worker. When the server knows it no more, it is over."""
        try:
            return self._server.post(f"/{self.id}{path}", body, seconds)
        except Refused as error:
            if error.status in (401, 403):
                self._die("refused", str(error))
            elif error.status == 404 or error.code == "lease_lost":
                self._die("lost", str(error))
            raise

    def holds_lease(self) -> bool:
        """Whether nobody can have taken its runs yet. Asked before anything is told: what ended after the lease was
        ended by the guardian, and did not fail."""
        if clock() >= self._lease_end:
            self._die("lost", "The lease could not be renewed in time.")
        return not self.dead.is_set()

    def over(self, run: Run) -> None:
        with self._lock:
            self._runs.pop(run.pair, None)
        # A slot is free.
        self._poll_now.set()

    def _die(self, why: str, text: str) -> None:
        with self._lock:
            if self.dead.is_set():
                return
            self._why = why
            self.dead.set()
        log.error("this worker is over, ending its runs: %s", text)
        self._end_all("lost")

    def _guarded(self, step: Callable[[], None]) -> None:
        """A worker without one of its threads is none: better one that begins anew."""
        try:
            step()
        except Exception as error:
            log.exception("a thread of this worker failed")
            self._die("lost", f"{type(error).__name__}: {error}")

    def _all(self) -> list[Run]:
        with self._lock:
            return list(self._runs.values())

    def _held(self) -> list[Json]:
        return [{"run": run.pair[0], "attempt": run.pair[1]} for run in self._all()]

    def _end_all(self, how: str) -> None:
        for run in self._all():
            run.end(how)

    def _renewed(self, asked_at: float, lease_seconds: float) -> None:
        self._lease_end = asked_at + lease_seconds - MARGIN_SECONDS
        self.guardian.hold(max(self._lease_end - clock(), 0.001))

    def _hear(self, answer: Json) -> None:
        if answer["state"] != self._state:
            self._state = answer["state"]
            log.info("state: %s", self._state)
        self._poll_seconds, self._heartbeat_seconds = answer["poll_seconds"], answer["heartbeat_seconds"]
        with self._lock:
            asked = [(self._runs.get((end["run"], end["attempt"])), end["how"]) for end in answer["end"]]
        for run, how in asked:
            if run is not None:
                run.end(how)

    def _poll(self) -> None:
        """Ask for runs. While it leaves it takes nothing, and what has to end it hears with its beats."""
        while not self.dead.is_set():
            if not self._leaving and self.holds_lease():
                try:
                    answer = self.call("/claim", {"running": self._held()})
                    self._hear(answer)
                    for spec in answer["runs"]:
                        self._begin(spec)
                except (Refused, Unreachable) as error:
                    log.warning("cannot ask for runs: %s", error)
            self._poll_now.wait(self._poll_seconds)
            self._poll_now.clear()

    def _begin(self, spec: Json) -> None:
        run = Run(self, spec)
        with self._lock:
            if run.pair in self._runs or self.dead.is_set():
                return
            self._runs[run.pair] = run
        log.info("run %s attempt %s of %s begins", *run.pair, spec["task"])
        run.thread.start()

    def _beat(self) -> None:
        pause = self._heartbeat_seconds
        while not self.dead.wait(pause):
            pause, asked_at = self._heartbeat_seconds, clock()
            # So short that there is time for another before the lease is over.
            seconds = max((self._lease_end - asked_at) / 3, 1.0)
            try:
                body = {"running": self._held(), "draining": self._leaving, **self._load.read()}
                answer = self.call("/heartbeat", body, seconds)
                self._renewed(asked_at, answer["lease_seconds"])
                self._hear(answer)
            except (Refused, Unreachable) as error:
                log.warning("the lease cannot be renewed: %s", error)
                pause = AGAIN_SECONDS
            self.holds_lease()

    def _send(self) -> None:
        while not self.dead.wait(SEND_SECONDS):
            for run in self._all():
                try:
                    run.send()
                except Unreachable as error:
                    log.warning("output cannot be sent: %s", error)
                    self.dead.wait(AGAIN_SECONDS)
                except Refused as error:
                    if error.code == "run_not_yours":
                        run.end("lost")
                    else:
                        log.warning("output of run %s refused: %s", run.pair[0], error)


class Load:
    """How busy the machine is, where /proc tells."""

    def __init__(self) -> None:
        self._before = self._processors()

    def read(self) -> Json:
        found: Json = {}
        with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
            now = self._processors()
            busy, total = now[0] - self._before[0], now[1] - self._before[1]
            self._before = now
            if total > 0:
                found["cpu_percent"] = round(min(max(100 * busy / total, 0.0), 100.0), 1)
            with open("/proc/meminfo") as file:
                memory = {line.split(":")[0]: int(line.split()[1]) for line in file}
            found["memory_percent"] = round(100 - 100 * memory["MemAvailable"] / memory["MemTotal"], 1)
            with open("/proc/self/statm") as file:
                found["memory_bytes"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return found

    @staticmethod
    def _processors() -> tuple[int, int]:
        """Ticks that all processors have been busy, and busy or idle."""
        try:
            with open("/proc/stat") as file:
                ticks = [int(word) for word in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


# --- the command ------------------------------------------------------------------------------------------------------


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--url", required=True, help="where the scheduler's web port is, https://...")
    parser.add_argument("--key-file", help="file with the worker key (default: the variable SCHEDULER_WORKER_KEY)")
    parser.add_argument("--ca-file", help="certificate authorities in place of the system's")
    parser.add_argument("--pool", default="", help="one of the pools of the key (default: its only one)")
    parser.add_argument("--slots", type=int, default=4, help="runs at once (default: %(default)s)")
    parser.add_argument("--name", default="", help="a name that lasts beyond a restart (default: a new one)")
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="may be repeated; without a value it is true",
    )
    parser.add_argument("--scripts", default="", help="folder of Python scripts; without it, it takes shell runs alone")
    parser.add_argument(
        "--grace",
        type=float,
        default=60.0,
        help="seconds that runs get to end when it is stopped (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    if not re.match(r"https?://", options.url):
        parser.error("--url begins with https:// (or http://, where nobody can listen)")
    if options.scripts and not os.path.isdir(options.scripts):
        parser.error(f"--scripts: there is no folder {options.scripts}")
    if options.key_file:
        try:
            with open(options.key_file) as file:
                options.key = file.read().strip()
        except OSError as error:
            parser.error(f"--key-file: {error}")
    else:
        options.key = os.environ.get("SCHEDULER_WORKER_KEY", "").strip()
    if not options.key:
        parser.error("give the worker key in the variable SCHEDULER_WORKER_KEY, or a file that holds it by --key-file")
    return options


def wish_of(options: argparse.Namespace) -> Json:
    labels = {}
    for label in options.label:
        name, equals, value = label.partition("=")
        labels[name] = value if equals else "true"
    return {
        "pool": options.pool,
        "name": options.name,
        "host": socket.gethostname()[:200],
        "pid": os.getpid(),
        "slots": options.slots,
        "labels": labels,
        "executors": ["python", "shell"] if options.scripts else ["shell"],
        "code_version": f"agent {VERSION}",
    }


def serve(options: argparse.Namespace, guardian: Guardian, stop: threading.Event, hurry: threading.Event) -> int:
    """Be a worker, one after the other when a lease was lost; the exit code."""
    server = Server(options.url, options.key, options.ca_file)
    pause = AGAIN_SECONDS
    while not stop.is_set():
        try:
            agent = Agent(server, guardian, wish_of(options), options.scripts, options.grace)
        except Unreachable as error:
            log.warning("cannot register, trying again in %g s: %s", pause, error)
            stop.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            continue
        except Refused as error:
            log.critical("cannot register: %s", error)
            return 2
        pause = AGAIN_SECONDS
        why = agent.live(stop, hurry)
        if why == "refused":
            log.critical("the key is not taken any more")
            return 2
        if why == "left":
            break
    log.info("left")
    return 0


def main() -> int:
    options = read_options()
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    guardian = Guardian()
    stop, hurry = threading.Event(), threading.Event()

    def on_signal(_number: int, _frame: Any) -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        return serve(options, guardian, stop, hurry)
    finally:
        guardian.close()


if __name__ == "__main__":
    sys.exit(main())
