"""Step 3: queued runs are announced on the broker, packed where they are short."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dispatcher_app.release import Released
from dispatcher_app.runtime_settings import PACK_SIZE
from workers_app.doorbell import Message
from workers_app.messages import Pair, worker_address

# A burst is spread over this many messages before messages grow, so that few runs still use many workers.
SPREAD = 16


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
