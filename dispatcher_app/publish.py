"""Step 3: queued runs are announced on the broker, packed where they are short."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dispatcher_app.release import Released
from dispatcher_app.runtime_settings import PACK_SIZE
from workers_app.doorbell import Message
from workers_app.messages import Pair, worker_address
from workers_app.models import HOLDING_A_LEASE, Worker

# A burst is spread over this many messages before messages grow, so that few runs still use many workers.
SPREAD = 16


def for_broker(runs: Sequence[Released]) -> list[Released]:
    """The runs that somebody may hear of through the broker: not those of agents, who ask by themselves.

    A pool that has had agents and has no other worker now is theirs: messages would lie in its queue for ever. A worker
    that comes there later finds what is queued with the next look for unclaimed runs.
    """
    if not runs:
        return []
    with_agents = set(Worker.objects.filter(key__isnull=False).values_list("pool__name", flat=True).distinct())
    if not with_agents:
        return list(runs)
    others = Worker.objects.filter(key__isnull=True, state__in=HOLDING_A_LEASE)
    theirs = with_agents - set(others.values_list("pool__name", flat=True).distinct())
    targets = {run.target for run in runs if run.target is not None}
    agents = set(Worker.objects.filter(key__isnull=False, pk__in=targets).values_list("pk", flat=True))
    return [run for run in runs if (run.pool not in theirs if run.target is None else run.target not in agents)]


def packed(runs: Sequence[Released]) -> Iterator[Message]:
    """(address, pairs) messages, in the order of the runs: best priority first; the address is a pool or one worker.

    Only callables of one version share a message: they are the short ones, and a worker that finds them long rings for
    the rest again."""
    messages: list[Message] = []
    packs: dict[tuple[str, int], list[Pair]] = {}
    for run in runs:
        address = run.pool if run.target is None else worker_address(run.target)
        pair, pack = (run.id, run.attempt), (address, run.version_id)
        if run.executor == "callable" and pack in packs:
            packs[pack].append(pair)
            continue
        messages.append((address, [pair]))
        if run.executor == "callable":
            packs[pack] = messages[-1][1]
    for address, pairs in messages:
        size = min(max(math.ceil(len(pairs) / SPREAD), 1), PACK_SIZE.value)
        for start in range(0, len(pairs), size):
            yield address, pairs[start : start + size]
