"""Who starts next: priority with age between groups, turns between keys, no limit broken, no slot left idle."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.fairness import Candidate, Limits, PoolLimit, choose, effective_priority
from tests.tasks_app.clock import at, seconds_taken

NOW = at("2026-03-02T10:00Z")


def run(id: int, *, waited: float = 0, **more: Any) -> Candidate:
    return Candidate(
        id, **{"group": 1, "pool": "default", "priority": 50, "since": NOW - timedelta(seconds=waited), **more}
    )


def limits(free: int | None = None, **more: Any) -> Limits:
    pools = {} if free is None else {"default": PoolLimit(slots=10, free=free)}
    return Limits(**{"now": NOW, "pools": pools, **more})


# Priority


def test_without_limits_all_start_the_most_important_first():
    runs = [run(1, priority=20), run(2, priority=75, group=2), run(3), run(4, group=3)]
    assert choose(runs, limits()) == [2, 3, 4, 1]
    assert choose([], limits()) == []


def test_of_equal_priority_the_one_that_waits_longest_goes_first():
    assert choose([run(1, waited=5), run(2, waited=7, group=2), run(3, waited=5, group=3)], limits(2)) == [2, 1]


def test_waiting_raises_the_priority_by_a_point_for_each_step():
    old = run(1, priority=0, waited=3000)
    assert effective_priority(old, limits()) == 100
    assert effective_priority(run(1, priority=7, waited=-50), limits()) == 7
    assert choose([run(2, priority=100, group=2), old], limits(1)) == [1]
    assert choose([run(2, priority=100, group=2), run(1, priority=0, waited=2999)], limits(1)) == [2]


def test_the_lowest_priority_starts_within_a_bounded_number_of_capacities():
    step = timedelta(seconds=10)
    waiting, now, old = [], NOW, run(0, priority=0)
    for tick in range(150):
        now = NOW + tick * step
        waiting += [run(1 + tick * 3 + extra, priority=100, group=2 + extra, since=now) for extra in range(2)]
        started = choose([old, *waiting], Limits(now, {"default": PoolLimit(2, 2)}, ageing=step))
        waiting = [each for each in waiting if each.id not in started]
        if 0 in started:
            break
    assert 100 <= tick <= 101


# Keys


def test_keys_take_turns_within_a_group():
    runs = [run(number, key="a", waited=100 - number) for number in range(4)] + [run(8, key="b"), run(9, key="b")]
    assert choose(runs, limits(5)) == [0, 8, 1, 9, 2]


def test_the_key_with_fewer_live_runs_goes_first():
    runs = [run(1, key="a", waited=100, priority=100), run(2, key="b")]
    assert choose(runs, limits(1, live={(1, "a"): 1})) == [2]
    assert choose(runs, limits(1, live={(1, "a"): 1, (1, "b"): 2})) == [1]


def test_among_keys_with_as_many_live_runs_the_one_served_longest_ago_goes_first():
    runs = [run(1, key="a", waited=100), run(2, key="b")]
    assert choose(runs, limits(1)) == [1]
    served = {(1, "a"): NOW, (1, "b"): NOW - timedelta(seconds=1)}
    assert choose(runs, limits(1, last_started=served)) == [2]
    assert choose(runs, limits(1, last_started={(1, "a"): NOW})) == [2]
    assert choose(runs, limits(1, last_started={(2, "a"): NOW})) == [1], "another task's key of that name"


def test_a_late_key_is_not_held_up_by_the_backlog_of_another():
    waiting = [run(number, key="a", waited=1000) for number in range(50)]
    waiting += [run(100 + number, key="b") for number in range(5)]
    served: dict[Any, datetime] = {}
    order = []
    for tick in range(10):
        now = NOW + timedelta(seconds=tick)
        (chosen,) = choose(waiting, Limits(now, {"default": PoolLimit(1, 1)}, last_started=served))
        one = next(each for each in waiting if each.id == chosen)
        waiting.remove(one)
        served[1, one.key] = now
        order.append(one.key)
    assert order == ["a", "b"] * 5


def test_an_important_run_pulls_its_group_forward():
    runs = [run(1, key="a", priority=10, waited=1), run(2, key="a", priority=5), run(3, key="b", priority=90)]
    other = run(4, group=2, priority=60)
    assert choose([*runs, other], limits(3, last_started={(1, "b"): NOW})) == [1, 3, 4]


# Limits


def test_a_full_key_or_group_lets_others_pass():
    runs = [run(1, key="a", priority=90), run(2, key="b"), run(3, group=2), run(4, group=2), run(5, group=3)]
    found = choose(runs, limits(9, keys={(1, "a"): 0}, groups={2: 1, 3: 0}))
    assert found == [2, 3]


def test_weights_take_as_many_slots():
    runs = [run(1, weight=3, priority=90), run(2, group=2, weight=2), run(3, group=3), run(4, group=4)]
    assert choose(runs, limits(4)) == [1, 3]
    assert choose([run(5, pool="other", weight=99), run(6, weight=5)], limits(4)) == [5]


def test_a_heavy_run_that_has_waited_long_keeps_the_free_slots():
    light = [run(2, group=2), run(3, group=3), run(4, group=4, pool="other")]
    assert choose([run(1, weight=3, waited=59), *light], limits(2)) == [2, 3, 4]
    assert choose([run(1, weight=3, waited=60), *light], limits(2)) == [4]
    assert choose([run(1, weight=3, waited=60), *light], limits(3)) == [1, 4]


def test_a_run_heavier_than_its_pool_holds_nothing_up():
    assert choose([run(1, weight=11, waited=9999), run(2, group=2)], limits(2)) == [2]


def test_no_more_than_the_most_are_chosen():
    assert choose([run(number) for number in range(9)], limits(most=2)) == [0, 1]
    assert choose([run(1)], limits(most=0)) == []


# Random candidates

CANDIDATES = st.lists(
    st.builds(
        lambda group, key, pool, priority, waited, weight: run(
            0, group=group, key=key, pool=pool, priority=priority, waited=waited, weight=weight
        ),
        st.integers(1, 3),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from(["default", "small", "free"]),
        st.integers(0, 100),
        st.integers(0, 4000),
        st.integers(1, 3),
    ),
    max_size=25,
).map(lambda runs: [Candidate(number, *_fields(each)) for number, each in enumerate(runs)])
PLACES = st.tuples(st.integers(1, 3), st.sampled_from(["a", "b", None]))
LIMITS = st.builds(
    lambda default, small, groups, keys, live, patience: Limits(
        NOW,
        {"default": PoolLimit(12, default), "small": PoolLimit(2, small)},
        groups,
        keys,
        live,
        patience=timedelta(seconds=patience),
    ),
    st.integers(0, 12),
    st.integers(0, 2),
    st.dictionaries(st.integers(1, 3), st.integers(0, 6), max_size=2),
    st.dictionaries(PLACES, st.integers(0, 3), max_size=4),
    st.dictionaries(PLACES, st.integers(0, 3), max_size=4),
    st.sampled_from([0, 600, 9999]),
)


def _fields(candidate: Candidate) -> tuple[Any, ...]:
    return tuple(getattr(candidate, name) for name in ("group", "pool", "priority", "since", "key", "weight"))


def left(chosen: list[Candidate], given: Limits) -> dict[Any, int]:
    rest: dict[Any, int] = {name: pool.free for name, pool in given.pools.items()}
    rest.update(given.groups)
    rest.update(given.keys)
    for each in chosen:
        for name, taken in ((each.pool, each.weight), (each.group, 1), ((each.group, each.key), 1)):
            if name in rest:
                rest[name] -= taken
    return rest


@settings(max_examples=300, deadline=None)
@given(runs=CANDIDATES, given=LIMITS, seed=st.integers(0, 9))
def test_no_limit_is_broken_no_slot_is_left_idle_and_the_order_given_does_not_matter(
    runs: list[Candidate], given: Limits, seed: int
) -> None:
    ids = choose(runs, given)
    shuffled = random.Random(seed).sample(runs, len(runs))
    assert choose(shuffled, given) == ids and len(set(ids)) == len(ids)
    rest = left([runs[number] for number in ids], given)
    assert all(value >= 0 for value in rest.values())
    if given.patience > timedelta(seconds=5000):
        for each in runs:
            fits = (
                each.weight <= rest.get(each.pool, 99)
                and rest.get(each.group, 1)
                and rest.get((each.group, each.key), 1)
            )
            assert each.id in ids or not fits


@settings(deadline=None)
@given(runs=CANDIDATES, free=st.integers(0, 12))
def test_runs_without_keys_and_weights_start_by_effective_priority_alone(runs: list[Candidate], free: int) -> None:
    plain = [run(each.id, group=each.group, priority=each.priority, since=each.since) for each in runs]
    best = sorted(plain, key=lambda each: (-effective_priority(each, limits()), each.since, each.id))
    assert choose(plain, limits(free)) == [each.id for each in best[:free]]


@pytest.mark.parametrize("groups", [1, 500])
def test_twenty_thousand_candidates_are_ordered_quickly(groups):
    chance = random.Random(1)
    runs = [
        run(
            number,
            group=number % groups,
            key=str(chance.randrange(50)),
            priority=chance.randrange(101),
            waited=number % 999,
        )
        for number in range(20_000)
    ]
    assert seconds_taken(lambda: choose(runs, limits(10))) < 1
