"""Durable no-op runs, beside the usual Celery + one ORM row per run, on the same servers.

Both sides have two slots: ours two worker processes with one warm slot each and one dispatcher, the peer one worker
with two prefork children. Of every run of ours its row, four events (created, queued, running, succeeded), its times
and its worker are kept; the peer saves a row at its start and at its end.

Two things are measured, each several times, the peer and ours by turns:

end to end: rows created and run, workers warm. Ours are created by trigger-batch, the peer's one by one as a web
request would. From the moment at which the submitting process, with everything imported, is told to begin, to the last
finished row.

drain: all runs lie in the queue before the workers start, so how they were submitted does not count. From the start of
the first run to the last finished row.

The numbers of runs (20,000 to 3,000) are such that both sides take about as long. Prints each round and the median of
the ratios; `--json` for programs, `--short` for a quick try.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import ground
from benchmarks.sides import Ours, Peer, Side
from tests import services

WARM_UP = 50
SHORT = {"rounds": 1, "runs": 3_000, "peer_runs": 450}


def main() -> int:
    options = _options()
    with ground.template() as (directory, template):
        counts = {Peer: options.peer_runs, Ours: options.runs}
        result = {
            name: _rounds(name, measure, counts, options, directory, template)
            for name, measure in (("end to end", end_to_end), ("drain", drain))
        }
    if options.json:
        print(json.dumps(result))
    return 0


def end_to_end(side: Side, count: int) -> float:
    """Seconds from the first submitted run to the last finished one; the workers are warm."""
    side.prepare()
    side.start_workers()
    _warm_up(side)
    with side.submitting(count) as began:
        pass
    side.wait_for_all()
    return time.time() - began


def drain(side: Side, count: int) -> float:
    """Seconds from the first start to the last finished run of a backlog that was there before the workers."""
    side.prepare()
    side.submit(count)
    side.wait_for_backlog()
    side.start_workers()
    side.wait_for_all()
    return time.time() - side.first_start()


def _rounds(
    name: str,
    measure: Callable[[Side, int], float],
    counts: dict[type[Side], int],
    options: argparse.Namespace,
    directory: Path,
    template: str,
) -> dict[str, Any]:
    say = (lambda _line: None) if options.json else print
    say(f"\n{name:34}{'runs':>8}{'seconds':>10}{'runs/s':>10}{'ratio':>8}")
    rounds = []
    for number in range(1, options.rounds + 1):
        rates: dict[str, Any] = {}
        for kind, count in counts.items():
            stack = services.ProcessStack(directory, template)
            try:
                seconds = measure(kind(stack), count)
            finally:
                stack.close()
            rates[kind.name] = {"runs": count, "seconds": round(seconds, 2), "runs_per_second": round(count / seconds)}
        rates["ratio"] = round(rates["ours"]["runs_per_second"] / rates["peer"]["runs_per_second"], 1)
        for kind in counts:
            ratio = f"{rates['ratio']:>7}x" if kind is Ours else ""
            one = rates[kind.name]
            say(f"{number} {kind.label:32}{one['runs']:>8}{one['seconds']:>10}{one['runs_per_second']:>10}{ratio}")
        rounds.append(rates)
    ratio = round(median(one["ratio"] for one in rounds), 1)
    say(f"{name}: median ratio {ratio}x")
    return {"rounds": rounds, "ratio": ratio}


def _warm_up(side: Side) -> None:
    """A first few runs, so that neither side pays for imports and connections in the measured part."""
    side.submit(WARM_UP)
    side.wait_for_all()


def _options() -> argparse.Namespace:
    parser = ground.parser(__doc__)
    parser.add_argument("--runs", type=int, default=20_000, help="no-op runs for ours (default: %(default)s)")
    parser.add_argument("--peer-runs", type=int, default=3_000, help="no-op runs for the peer (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: %(default)s)")
    return ground.options(parser, SHORT)


if __name__ == "__main__":
    sys.exit(main())
