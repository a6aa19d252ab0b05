"""The one writer of run state: every verb moves what it names, and nothing else."""

from __future__ import annotations

from uuid import UUID

import pytest

from tasks_app import rowset, transitions
from tasks_app.models import Run, RunEvent
from tasks_app.moves import Outcome
from tasks_app.states import ALLOWED, TERMINAL, Reason, RunState
from tests.tasks_app.making import (
    ACTOR,
    ANSWERED,
    NOW,
    bring,
    end,
    enqueue,
    events_of,
    later,
    make_task,
    plan,
    start,
    state_of,
)

pytestmark = pytest.mark.django_db
STRANGER = UUID(int=2)
W, Q, R = RunState.WAITING, RunState.QUEUED, RunState.RUNNING
ENDED_BY_A_WORKER = sorted(ALLOWED[R] - {W})
ORPHAN_STATES = [W, RunState.LOST, RunState.QUARANTINED, RunState.CANCELLED]


@pytest.fixture
def run_in():
    """`run_in(state)`: the id of a fresh run in that state."""
    task = make_task()

    def make(state: RunState) -> int:
        (id,) = plan(task)
        bring(id, state)
        return id

    return make


def enqueued(id: int) -> bool:
    return transitions.enqueue([id], now=NOW, sweep_at=NOW, actor=ACTOR) == [id]


def claimed(id: int, attempt: int = 1) -> bool:
    return [run.id for run in transitions.claim([(id, attempt)], worker_id=ANSWERED, now=NOW, actor=ACTOR)] == [id]


def finished(id: int, attempt: int = 1, worker_id: UUID = ANSWERED, state: RunState = RunState.SUCCEEDED) -> bool:
    return transitions.finish([Outcome(id, attempt, state)], worker_id=worker_id, now=NOW, actor=ACTOR) == {id}


def recovered(id: int, attempt: int = 1, state: RunState = RunState.LOST) -> bool:
    return transitions.recover([Outcome(id, attempt, state)], now=NOW, actor=ACTOR) == {id}


def settled(id: int, state: RunState = RunState.SKIPPED) -> bool:
    return transitions.settle({id: (state, "", "")}, now=NOW, actor=ACTOR) == {id}


def cancelled(id: int) -> bool:
    return transitions.cancel_unstarted([id], now=NOW, actor=ACTOR) == {id}


VERBS = {
    enqueued: {W: Q},
    claimed: {Q: R},
    finished: {R: RunState.SUCCEEDED},
    recovered: {R: RunState.LOST},
    settled: {W: RunState.SKIPPED},
    cancelled: {W: RunState.CANCELLED, Q: RunState.CANCELLED},
}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
@pytest.mark.parametrize("state", list(RunState))
def test_a_verb_moves_a_run_from_its_from_state_alone(run_in, verb, state):
    id = run_in(state)
    before = (Run.objects.filter(pk=id).values().get(), events_of(id))
    moves = state in VERBS[verb]
    assert verb(id) is moves
    if moves:
        to_state = VERBS[verb][state]
        assert state_of(id) == to_state
        assert to_state in ALLOWED[state]
        assert events_of(id) == [*before[1], (state, to_state, 1)]
    else:
        assert (Run.objects.filter(pk=id).values().get(), events_of(id)) == before


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_terminal_stays_terminal(run_in, state):
    id = run_in(state)
    before = Run.objects.filter(pk=id).values().get()
    assert not any(verb(id) for verb in VERBS)
    assert not finished(id, state=W)
    assert not recovered(id, state=W)
    assert Run.objects.filter(pk=id).values().get() == before


@pytest.mark.parametrize("attempt", [0, 2])
def test_another_attempt_claims_finishes_and_recovers_nothing(run_in, attempt):
    queued, running = run_in(Q), run_in(R)
    assert not claimed(queued, attempt)
    assert not finished(running, attempt)
    assert not recovered(running, attempt)
    assert (state_of(queued), state_of(running)) == (Q, R)
    assert claimed(queued) and finished(running)


def test_another_worker_finishes_nothing(run_in):
    id = run_in(R)
    assert not finished(id, worker_id=STRANGER)
    assert state_of(id) == R
    assert finished(id)


def test_a_late_finish_of_an_earlier_attempt_changes_nothing(run_in):
    id = run_in(R)
    assert recovered(id, state=W)
    enqueue(id)
    assert claimed(id, 2)
    before = Run.objects.filter(pk=id).values().get()
    assert not finished(id, 1)
    assert Run.objects.filter(pk=id).values().get() == before


@pytest.mark.parametrize("state", ENDED_BY_A_WORKER)
def test_a_finish_keeps_what_the_attempt_gave(run_in, state):
    id, other = run_in(R), run_in(R)
    outcome = Outcome(id, 1, state, Reason.EXIT_CODE, "It said no.", exit_code=3, output={"rows": [1, None, "é"]})
    assert transitions.finish([outcome], worker_id=ANSWERED, now=later(seconds=9), actor=ACTOR) == {id}
    run = Run.objects.get(pk=id)
    assert (run.state, run.reason, run.reason_detail) == (state, "exit_code", "It said no.")
    assert (run.exit_code, run.output, run.attempt, run.worker_id) == (3, {"rows": [1, None, "é"]}, 1, ANSWERED)
    assert (run.started_at, run.finished_at) == (NOW, later(seconds=9))
    event = RunEvent.objects.filter(run_id=id).latest("id")
    assert (event.at, event.reason, event.detail, event.actor) == (run.finished_at, "exit_code", "It said no.", ACTOR)
    assert state_of(other) == R


def test_a_retry_waits_as_the_next_attempt_and_forgets_its_worker(run_in):
    id = run_in(R)
    outcome = Outcome(id, 1, W, Reason.EXIT_CODE, exit_code=3, retry_at=later(minutes=1))
    assert transitions.finish([outcome], worker_id=ANSWERED, now=NOW, actor=ACTOR) == {id}
    run = Run.objects.get(pk=id)
    assert (run.state, run.attempt, run.due_at, run.exit_code) == (W, 2, later(minutes=1), 3)
    assert (run.worker_id, run.started_at, run.queued_at, run.finished_at) == (None, None, None, None)
    assert events_of(id)[-1] == (R, W, 1)


def test_the_next_attempt_starts_without_the_result_of_the_last(run_in):
    id = run_in(R)
    outcome = Outcome(id, 1, W, Reason.EXIT_CODE, exit_code=3, output={"half": True})
    transitions.finish([outcome], worker_id=ANSWERED, now=NOW, actor=ACTOR)
    start(id)
    assert recovered(id, 2)
    run = Run.objects.get(pk=id)
    assert (run.state, run.attempt, run.exit_code, run.output) == (RunState.LOST, 2, None, None)


@pytest.mark.parametrize("verb", [finished, recovered])
def test_a_run_that_was_asked_to_end_is_cancelled_in_place_of_its_retry(run_in, verb):
    asked, other = run_in(R), run_in(R)
    Run.objects.filter(pk=asked).update(cancel_requested_at=NOW)
    assert verb(asked, state=W) and verb(other, state=W)
    run = Run.objects.get(pk=asked)
    assert (run.state, run.reason, run.attempt, run.finished_at) == (RunState.CANCELLED, "cancel_requested", 1, NOW)
    assert events_of(asked)[-1] == (R, RunState.CANCELLED, 1)
    assert (state_of(other), Run.objects.get(pk=other).attempt) == (W, 2)


@pytest.mark.parametrize("state", ORPHAN_STATES)
def test_a_recovered_run_counts_the_death_of_its_worker(run_in, state):
    id = run_in(R)
    assert transitions.recover([Outcome(id, 1, state, worker_died=True)], now=NOW, actor=ACTOR) == {id}
    run = Run.objects.get(pk=id)
    assert (run.state, run.worker_deaths, run.attempt) == (state, 1, 2 if state is W else 1)


def test_a_move_that_the_states_do_not_allow_is_refused_before_the_database(run_in):
    running, waiting = run_in(R), run_in(W)
    for state in (R, Q, RunState.SKIPPED, RunState.EXPIRED, RunState.UPSTREAM_FAILED):
        with pytest.raises(ValueError, match="cannot go from running"):
            finished(running, state=state)
    for state in (R, RunState.SUCCEEDED, RunState.LOST):
        with pytest.raises(ValueError, match="cannot go from waiting"):
            settled(waiting, state)


def test_every_life_is_told_by_its_events(run_in):
    id = run_in(R)
    end(id, RunState.WAITING)
    start(id)
    end(id, RunState.FAILED)
    assert events_of(id) == [
        ("", W, 1),
        (W, Q, 1),
        (Q, R, 1),
        (R, W, 1),
        (W, Q, 2),
        (Q, R, 2),
        (R, RunState.FAILED, 2),
    ]


def test_a_set_moves_what_it_can_and_names_it(run_in):
    ids = [run_in(state) for state in (W, Q, R, RunState.FAILED, W)]
    moved = transitions.enqueue([*ids, 999_999_999], now=NOW, sweep_at=NOW, actor=ACTOR)
    assert sorted(moved) == [ids[0], ids[4]]
    assert [len(events_of(id)) for id in ids] == [2, 2, 3, 4, 2]


def test_the_same_pair_twice_is_one_claim(run_in):
    id = run_in(Q)
    taken = transitions.claim([(id, 1), (id, 1), (id, 2)], worker_id=ANSWERED, now=NOW, actor=ACTOR)
    assert [(run.id, run.attempt) for run in taken] == [(id, 1)]
    assert events_of(id)[-1] == (Q, R, 1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"text": "a\x00b"}, {"text": "a\ufffdb"}),
        ({"text": "\ud800"}, {"text": "\ufffd\ufffd\ufffd"}),
        ({"n": float("nan"), "i": [float("inf"), 1.5]}, {"n": None, "i": [None, 1.5]}),
        ([2**80, {"deep": [None, True]}], [2**80, {"deep": [None, True]}]),
        ("text", "text"),
        (None, None),
        (False, False),
        (0, 0),
    ],
)
def test_any_output_is_stored_and_spoils_no_other(run_in, given, kept):
    id, other = run_in(R), run_in(R)
    outcomes = [Outcome(id, 1, RunState.SUCCEEDED, detail="NUL \x00", output=given), Outcome(other, 1, RunState.FAILED)]
    assert transitions.finish(outcomes, worker_id=ANSWERED, now=NOW, actor=ACTOR) == {id, other}
    assert Run.objects.get(pk=id).output == kept


@pytest.mark.parametrize("number", [1, 300])
def test_a_move_costs_the_same_for_any_number(run_in, number, django_assert_num_queries):
    # SQLite cannot log a change in the statement that makes it; it does both within a savepoint.
    statements = 1 if rowset.is_postgresql() else 4
    ids = plan(make_task(), number)
    with django_assert_num_queries(statements):
        transitions.enqueue(ids, now=NOW, sweep_at=NOW, actor=ACTOR)
    with django_assert_num_queries(statements):
        transitions.claim([(id, 1) for id in ids], worker_id=ANSWERED, now=NOW, actor=ACTOR)
    with django_assert_num_queries(statements):
        outcomes = [Outcome(id, 1, RunState.SUCCEEDED) for id in ids]
        assert len(transitions.finish(outcomes, worker_id=ANSWERED, now=NOW, actor=ACTOR)) == number
