"""Which worker a run goes to, by each strategy. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from dispatcher_app.publish import packed
from dispatcher_app.release import Released
from dispatcher_app.routing import Route, Server, assign
from tasks_app.label_expressions import parse
from tasks_app.routing import Routing

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass
class Run:
    id: int
    task_id: int = 1


def server(number: int, name: str = "", *, slots: int = 4, **fields: Any) -> Server:
    return Server(UUID(int=number), name or f"w{number}", fields.pop("labels", {}), slots, **fields)


def route(strategy: str, online: list[Server], *, labels: str = "", task_id: int = 1, **fields: Any) -> Route:
    return Route(task_id, "default", strategy, parse(labels), labels, servers=online, **fields)


def sent(runs: int | list[int], to: Route, **known: Any) -> list[int]:
    """The numbers of the workers to which runs go, one after the other."""
    wanted = [Run(id) for id in (range(runs) if isinstance(runs, int) else runs)]
    given: dict[str, Any] = {"keys": {}, "last_turns": {}, "random": Random(1)} | known
    found = assign(wanted, {1: to}, **given)
    return [found[run.id].int for run in wanted if run.id in found]


def test_the_least_loaded_by_its_slots_gets_the_next_one_and_what_it_gets_counts():
    large, small = server(1, slots=8, running=2), server(2, slots=2)
    assert sent(1, route(Routing.LEAST_LOADED, [large, small])) == [1]
    large, small = server(1, slots=8, running=2), server(2, slots=2)
    assert Counter(sent(8, route(Routing.LEAST_LOADED, [large, small]))) == {1: 6, 2: 2}
    assert (large.queued, small.queued) == (6, 2)


def test_of_equals_the_one_with_the_idler_processors_comes_first():
    busy, idle = server(1, cpu=90.0), server(2, cpu=10.0)
    assert sent(2, route(Routing.LEAST_LOADED, [busy, idle])) == [2, 1]


def test_what_one_task_gives_a_worker_counts_for_the_next_task():
    online = [server(1), server(2)]
    routes = {1: route(Routing.SPECIFIC, online, names=["w1"]), 2: route(Routing.LEAST_LOADED, online, task_id=2)}
    runs = [*(Run(id) for id in range(4)), *(Run(id, 2) for id in range(4, 8))]
    found = assign(runs, routes, keys={}, last_turns={}, random=Random(1))
    assert [found[run.id].int for run in runs] == [1, 1, 1, 1, 2, 2, 2, 2]


def test_turns_begin_with_the_worker_that_was_served_the_longest_ago():
    online = [server(number) for number in (1, 2, 3, 4)]
    last = {(1, UUID(int=1)): NOW, (1, UUID(int=2)): NOW - timedelta(hours=1), (1, UUID(int=4)): NOW}
    last[2, UUID(int=3)] = NOW + timedelta(hours=1)
    assert sent(6, route(Routing.ROUND_ROBIN, online), last_turns=last) == [3, 2, 1, 4, 3, 2]


def test_by_chance_each_gets_its_share():
    counts = Counter(sent(3000, route(Routing.RANDOM, [server(number) for number in (1, 2, 3)])))
    assert all(900 < counts[number] < 1100 for number in (1, 2, 3)), counts


def test_a_key_stays_with_its_worker_and_only_the_keys_of_one_that_leaves_move():
    keys = {id: f"customer {id % 100}" for id in range(300)}
    four = [server(number) for number in (1, 2, 3, 4)]
    before = sent(300, route(Routing.CONSISTENT_HASH, four), keys=keys)
    assert before[:100] == before[100:200] == before[200:]
    assert all(count >= 10 for count in Counter(before[:100]).values()) and len(set(before)) == 4
    after = sent(300, route(Routing.CONSISTENT_HASH, [each for each in four if each.id.int != 2]), keys=keys)
    assert [new for old, new in zip(before, after, strict=True) if old != 2] == [old for old in before if old != 2]
    restarted = [server(number + 10, f"w{number}") for number in (4, 3, 2, 1)]
    assert [number - 10 for number in sent(300, route(Routing.CONSISTENT_HASH, restarted), keys=keys)] == before


def test_a_named_worker_gets_all_and_others_none_whatever_their_load():
    online = [server(1, "a"), server(2, "b", running=100), server(3, "c")]
    assert sent(3, route(Routing.SPECIFIC, online, names=["b"])) == [2, 2, 2]
    assert sent(3, route(Routing.SPECIFIC, online, names=["z"])) == []


def test_the_first_of_the_list_that_is_online_gets_all():
    names = ["a", "b", "c"]
    online = [server(3, "c"), server(2, "b")]
    assert sent(2, route(Routing.FAILOVER, online, names=names)) == [2, 2]
    assert sent(1, route(Routing.FAILOVER, [*online, server(1, "a")], names=names)) == [1]
    assert sent(1, route(Routing.FAILOVER, [server(9, "z")], names=names)) == []


@pytest.mark.parametrize("strategy", [Routing.ANY, Routing.LEAST_LOADED, Routing.ROUND_ROBIN, Routing.RANDOM])
def test_only_workers_with_the_labels_are_chosen_from(strategy):
    online = [server(1, labels={"gpu": "true"}), server(2, labels={"gpu": "true", "spot": "true"}), server(3)]
    assert set(sent(20, route(strategy, online, labels="gpu and not spot"))) == {1}
    assert sent(5, route(strategy, online, labels="arm")) == []


def test_labels_hold_for_named_workers_too():
    online = [server(1, "a"), server(2, "b", labels={"gpu": "true"})]
    assert sent(1, route(Routing.FAILOVER, online, names=["a", "b"], labels="gpu")) == [2]
    assert sent(1, route(Routing.SPECIFIC, online, names=["a"], labels="gpu")) == []


def test_runs_of_tasks_without_a_route_are_left_alone():
    found = assign([Run(1, 7)], {1: route(Routing.ANY, [server(1)])}, keys={}, last_turns={}, random=Random(1))
    assert found == {}


def test_runs_for_one_worker_do_not_share_a_message_with_those_for_its_pool():
    first, second = UUID(int=1), UUID(int=2)
    runs = [Released(id, 1, "default", 7, "callable", target) for id, target in enumerate([None, first, second] * 20)]
    for address, pairs in packed(runs):
        wanted = {"default": 0, str(first): 1, str(second): 2}[address]
        assert {id % 3 for id, _attempt in pairs} == {wanted}
