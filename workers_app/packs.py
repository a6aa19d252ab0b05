"""Executing calls on warm hosts: a pack goes to one host whole; a call that gets stuck holds up none of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tasks_app.models import EndStep
from tasks_app.states import Reason, RunState
from workers_app.hosts import Host, HostDied, HostPool
from workers_app.jobs import Active, Control, Result, over_limit
from workers_app.output import OutputSink
from workers_app.runtime_settings import KILL_GRACE_SECONDS
from workers_app.usage import Watched, usage

# A call that takes longer than this is no reason for the rest of its pack to wait.
STUCK_SECONDS = 0.25
GATHER_SECONDS = 0.002
_NEVER = float("inf")
Emit = Callable[[Active, OutputSink, Result], None]


class Pack:
    """The calls of one pack, on one host.

    `emit` is called once for each call, in any thread; `on_stuck` from time to time while a call takes long, so that
    what has been emitted so far need not wait for it.
    """

    def __init__(
        self,
        pool: HostPool,
        entries: Sequence[tuple[Active, OutputSink]],
        emit: Emit,
        on_stuck: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool, self._emit, self._on_stuck = pool, emit, on_stuck
        self._entries = list(entries)
        self._done = 0
        self._current_since = 0.0
        self._terminated_at = _NEVER
        self._why: str | None = None
        self._watched: Watched | None = None
        self._spilled: list[threading.Thread] = []

    def run(self) -> None:
        """Execute all calls; returns when every one has been answered."""
        try:
            host = self._pool.acquire()
        except HostDied as error:
            detail = f"The process for callables does not start (exit code {error.exit_code}); see the worker's log."
            for active, sink in self._entries:
                self._emit(active, sink, Result(RunState.FAILED, Reason.INTERNAL, detail))
            return
        try:
            self._current_since = time.monotonic()
            host.feed([active.job for active, _sink in self._entries])
            self._collect(host)
            self._pool.release(host)
        except HostDied as error:
            self._after_death(host, error)
        except BaseException:
            self._pool.discard(host)
            raise
        finally:
            self._follow(None)
            for thread in self._spilled:
                thread.join()

    def _collect(self, host: Host) -> None:
        while True:
            self._follow(host)
            for frame in host.frames(self._next_wait()):
                if frame[0] == "end":
                    host.peak_bytes = frame[1]
                    return
                self._take(frame)
            if self._done < len(self._entries):
                self._watch(host)
                # Short calls answer by the hundred; being woken for each would cost more than it takes to make them.
                time.sleep(GATHER_SECONDS)

    def _follow(self, host: Host | None) -> None:
        """Have the limits of the call under way looked after, if it has any."""
        active = self._entries[self._done][0] if host is not None and self._done < len(self._entries) else None
        before = self._watched
        if before is not None and (active is None or before.control is not active.control):
            usage.forget(before)
            self._watched = before = None
        if host is not None and active is not None and before is None and active.job.limits.watched:
            self._watched = Watched(host.origin, host.pid, active.job.limits, active.control, since=None)
            usage.watch(self._watched)

    def _next_wait(self) -> float:
        return STUCK_SECONDS if self._done < len(self._entries) else 5.0

    def _take(self, frame: list[Any]) -> None:
        if frame[0] == "out":
            _kind, place, stream, text = frame
            if 0 <= place < len(self._entries):
                self._entries[place][1].feed(stream, text.encode("utf-8", "surrogatepass"))
        elif frame[0] == "done":
            _kind, place, how, value, trace, seconds, *names = frame
            self._done = place + 1
            self._current_since = time.monotonic()
            active, sink = self._entries[place]
            if trace:
                sink.feed("stderr", trace.encode("utf-8", "surrogatepass"))
            sink.close()
            self._emit(
                active, sink, replace(self._result(active, how, value), exceptions=tuple(names), busy_seconds=seconds)
            )
            self._terminated_at, self._why = _NEVER, None

    def _result(self, active: Active, how: str, value: Any) -> Result:
        if how == "ok":
            return Result(RunState.SUCCEEDED, exit_code=0, output=value)
        if how == "ended":
            return self._ended_result(active)
        if how == "unknown":
            return Result(RunState.FAILED, Reason.COMMAND_NOT_FOUND, value, exit_code=1, retryable=False)
        refused = active.job.limits.refused(value.encode("utf-8", "replace")) if active.job.limits else None
        reason, detail = refused or (Reason.EXCEPTION, value)
        return Result(RunState.FAILED, reason, detail, exit_code=1)

    def _ended_result(self, active: Active) -> Result:
        if self._why == "timeout":
            detail = f"It ran longer than {active.job.timeout_seconds:g} s and was ended."
            return Result(RunState.TIMED_OUT, Reason.TIMEOUT, detail)
        if self._why in (Control.CPU, Control.MEMORY) and (result := over_limit(active.control)) is not None:
            return result
        detail = "Killed on request." if self._why == Control.KILL else "Ended on request."
        return Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED, detail)

    def _watch(self, host: Host) -> None:
        """Look after the call under way: spill what waits behind it, end it when it must end."""
        active, _sink = self._entries[self._done]
        running = time.monotonic() - self._current_since
        if running >= STUCK_SECONDS:
            self._spill(host.take_back())
            self._on_stuck()
        why = active.control.why or ("timeout" if running >= active.job.timeout_seconds else None)
        if why is None:
            return
        if why in Control.AT_ONCE:
            self._why = why
            self._spill(host.take_back())
            self._kill(host, active)
        elif self._why is None:
            self._why = why
            self._terminated_at = time.monotonic()
            # Whatever ends this call, by TERM or with the whole host by KILL, must not reach the next one.
            self._spill(host.take_back())
            active.control.took(EndStep.Step.TERM)
            host.terminate(self._done)
        elif time.monotonic() - self._terminated_at >= KILL_GRACE_SECONDS.value:
            self._kill(host, active)

    def _kill(self, host: Host, active: Active) -> None:
        active.control.took(EndStep.Step.KILL)
        host.kill()

    def _spill(self, count: int) -> None:
        """Give the last `count` calls, which have not begun, to another host."""
        if count == 0:
            return
        rest = self._entries[-count:]
        del self._entries[-count:]
        thread = threading.Thread(
            target=Pack(self._pool, rest, self._emit, self._on_stuck).run, name="pack-spill", daemon=True
        )
        thread.start()
        self._spilled.append(thread)

    def _after_death(self, host: Host, error: HostDied) -> None:
        """The call under way went down with the host, or was killed with it; the others are executed elsewhere."""
        self._spill(host.take_back())
        self._pool.discard(host)
        if self._done >= len(self._entries):
            return
        active, sink = self._entries[self._done]
        sink.close()
        if self._why is not None:
            result = self._ended_result(active)
        else:
            detail = f"Its process ended in the middle of the call (exit code {error.exit_code})."
            result = Result(RunState.FAILED, Reason.EXIT_CODE, detail, exit_code=error.exit_code)
        self._emit(active, sink, result)
        self._spill(len(self._entries) - self._done - 1)
