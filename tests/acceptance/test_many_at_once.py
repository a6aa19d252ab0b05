"""Many runs at the same time on one worker; the short form of benchmarks/many_at_once.py."""

from __future__ import annotations

import pytest

from benchmarks.many_at_once import measure
from tests.acceptance.work import LONG, say

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.rabbitmq]
RUNS, SECONDS = (1000, 60) if LONG else (100, 5)


@pytest.mark.long
def test_a_worker_holds_many_shell_and_http_runs_at_once_and_no_more_memory_after_the_second_wave(stack, capsys):
    waves = measure(stack, RUNS, SECONDS)
    for kind in ("shell", "http"):
        first, second = (wave for wave in waves if wave.kind == kind)
        assert second.rss_mib - first.rss_mib < 20 + RUNS / 50, f"{kind}: memory grows from wave to wave"
    shown = ", ".join(f"{wave.kind} {wave.started_seconds} s {wave.rss_mib:.0f} MiB" for wave in waves)
    say(capsys, f"{RUNS} runs at once: {shown}")
