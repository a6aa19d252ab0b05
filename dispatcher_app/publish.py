"""Step 3: queued runs are announced on the broker, packed where they are short."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dispatcher_app.release import Released
from workers_app.doorbell import Message
from workers_app.messages import Pair

PACK = 100
# A burst is spread over this many messages before messages grow, so that few runs still use many workers.
SPREAD = 16


def packed(runs: Sequence[Released]) -> Iterator[Message]:
    """(pool, pairs) messages. Only callables of one version share a message: they are the short ones, and a worker that
    finds them long rings for the rest again."""
    packs: dict[tuple[str, int], list[Pair]] = {}
    for run in runs:
        if run.executor == "callable":
            packs.setdefault((run.pool, run.version_id), []).append((run.id, run.attempt))
        else:
            yield run.pool, [(run.id, run.attempt)]
    for (pool, _version), pairs in packs.items():
        size = min(max(math.ceil(len(pairs) / SPREAD), 1), PACK)
        for start in range(0, len(pairs), size):
            yield pool, pairs[start : start + size]
