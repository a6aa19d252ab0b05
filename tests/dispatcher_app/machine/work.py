"""Rules: workers and messages."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tasks_app.states import Reason, RunState
from tests.dispatcher_app.machine.ground import Ground, pick
from tests.dispatcher_app.machine.hands import Hand
from tests.dispatcher_app.machine.snapshot import only
from workers_app.jobs import Active, Result

MOST_HANDS = 8


class Work(Ground):
    """Messages come, are lost and repeated; attempts end as they may; workers die and are stopped."""

    @rule(message=pick, hand=pick, again=st.sampled_from([False, False, True]))
    def deliver(self, message: int, hand: int, again: bool = False) -> None:
        """A message comes to a worker; `again`: it stays in the queue as well."""
        queue = self.world.broker.queue
        if not queue:
            return
        place = message % len(queue)
        self._take(queue[place] if again else queue.pop(place), hand)

    @precondition(lambda self: self.world.broker.history)
    @rule(message=st.integers(0, 29), hand=pick)
    def deliver_an_old_one(self, message: int, hand: int) -> None:
        """If there is one, of an attempt that is over while the next one is announced: there it can do harm."""
        history = self.world.broker.history
        stale = [one for one in history if any(self._is_stale(*pair) for pair in one[1])]
        messages = stale or history
        self._take(messages[message % len(messages)], hand)

    def _is_stale(self, id: int, attempt: int) -> bool:
        run = self.runs.get(id)
        return run is not None and run.state == "queued" and run.attempt != attempt

    def _take(self, message: Any, hand: int) -> None:
        pool, pairs = message
        takers = [one for one in self.world.hands if one.pool.name == pool and one.takes]
        if not takers:
            return
        taker = takers[hand % len(takers)]
        fresh = [
            id
            for id, attempt in pairs
            if (run := self.runs.get(id)) is not None and (run.state, run.attempt) == ("queued", attempt)
        ]
        with self.step(only(fresh, "running")):
            taker.take(pairs)
        # A pack is taken up run by run as long as it is not known to be short; the rest is announced again.
        first = next((id for id, _attempt in pairs if id in fresh), None)
        assert first is None or self.runs[first].state == "running", f"#{first} was announced and not started"
        assert first is None or self.runs[first].worker_id == taker.id

    @precondition(lambda self: self.world.broker.queue)
    @rule(message=pick)
    def message_is_lost(self, message: int) -> None:
        del self.world.broker.queue[message % len(self.world.broker.queue)]

    @precondition(lambda self: self.world.begun())
    @rule(which=pick, how=st.sampled_from(["ok", "ok", "empty", "fail", "final", "ask"]))
    def attempt_ends(self, which: int, how: str) -> None:
        """Whoever began it says so, also long after it was given to somebody else."""
        begun = self.world.begun()
        hand, active = begun[which % len(begun)]
        result = Result(RunState.FAILED, Reason.EXIT_CODE, exit_code=1)
        match how:
            case "ok":
                result = Result(RunState.SUCCEEDED, output={"rows": 1}, exit_code=0)
            case "empty":
                result = Result(RunState.SUCCEEDED, output={"rows": 0}, exit_code=0)
            case "final":
                result.retryable = False
            case "ask":
                result.asked_delay = 30.0
        self._end(hand, active, result)

    @precondition(lambda self: self.world.begun())
    @rule()
    def workers_notice_what_was_cancelled(self) -> None:
        """And what is not theirs any more, of which nothing is written down."""
        for hand in self.world.hands:
            # One whose reaper gave up is about to end itself.
            if not hand.frozen and hand.may_report:
                with self.step():
                    hand.watch()
                self._end_what_was_asked(hand)

    def _end_what_was_asked(self, hand: Hand) -> None:
        for active in hand.begun:
            run = self.runs.get(active.job.run_id)
            mine = run is not None and run.owned_by(hand.id, active.job.attempt)
            asked = not mine or (run is not None and run.cancel_requested_at is not None)
            told = active.control.why
            assert asked == (told is not None), f"I5: #{active.job.run_id} was told {told} to end, and is {run}"
            if asked:
                self._end(hand, active, Result(RunState.CANCELLED, Reason.CANCEL_REQUESTED))

    def _end(self, hand: Any, active: Active, result: Result) -> None:
        run = self.runs.get(active.job.run_id)
        mine = run is not None and run.owned_by(hand.id, active.job.attempt) and hand.may_report
        expected = self._after(run, active, result) if mine else ""
        self.note_end(hand, active, {"succeeded": True, "failed": False, "waiting": False}.get(expected))
        with self.step(only([active.job.run_id], expected)):
            hand.end(active, result)
        if mine:
            after = self.runs[active.job.run_id]
            assert after.state == expected, f"#{after.id} ended {result.state} and is {after.state}, not {expected}"
            assert after.attempt == active.job.attempt + (expected == "waiting")

    def _after(self, run: Any, active: Active, result: Result) -> str:
        retried = (
            result.state == RunState.FAILED and result.retryable and active.job.attempt <= active.job.retry.retry_count
        )
        if not retried:
            return result.state
        return "waiting" if run.cancel_requested_at is None else "cancelled"

    @rule(which=pick, killed=st.sampled_from([False, False, True]), seconds=st.sampled_from([0, 6, 16, 16]))
    def worker_dies(self, which: int, killed: bool, seconds: float) -> None:
        """It says nothing any more; what it has begun may still come to its end, and another takes its place."""
        hand = self.world.hands[which % len(self.world.hands)]
        if killed:
            hand.vanish()
        else:
            hand.frozen = True
            if len(self.world.hands) < MOST_HANDS:
                self.world.hire(hand.pool)
        self.time_passes(seconds)

    @precondition(lambda self: any(hand.frozen for hand in self.world.hands))
    @rule(which=pick)
    def worker_wakes_up(self, which: int) -> None:
        frozen = [hand for hand in self.world.hands if hand.frozen]
        frozen[which % len(frozen)].frozen = False

    @rule(which=pick)
    def worker_is_stopped(self, which: int) -> None:
        hand = self.world.hands[which % len(self.world.hands)]
        begun = {active.job.run_id for active in hand.begun}
        mine = [id for id in begun if id in self.runs and self.runs[id].worker_id == hand.id]
        with self.step(only(mine, "waiting", "lost", "cancelled")):
            hand.stop()
        self.world.replace_the_gone()

    @rule(seconds=st.sampled_from([5, 61, 130]), which=st.integers(0, 1), messages=st.integers(0, 5), hand=pick)
    def an_ordinary_while(self, seconds: float, which: int, messages: int, hand: int) -> None:
        """What goes on all the time, as one step: a walk of single steps would seldom come far."""
        self.time_passes(seconds)
        self.tick(which)
        for _ in range(messages):
            self.deliver(0, hand)

    @rule(which=st.integers(0, 1), messages=st.integers(0, 5), hand=pick, how=st.sampled_from(["ok", "fail"]))
    def work_is_done(self, which: int, messages: int, hand: int, how: str) -> None:
        self.tick(which)
        for _ in range(messages):
            self.deliver(0, hand)
        for _ in range(min(messages, len(self.world.begun()))):
            self.attempt_ends(0, how)
