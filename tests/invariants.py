"""The invariants of SEMANTICS 2 that can be read from the rows alone; asked after every acceptance test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TERMINAL = (
    "('succeeded', 'failed', 'timed_out', 'cancelled', 'skipped', 'upstream_failed', 'expired', 'lost', 'quarantined')"
)
# Each names what it found: no row is what is wanted.
VIOLATIONS = {
    "I1 two runs of one instant": """select schedule_id, nominal_at from tasks_app_run
        where schedule_id is not null group by 1, 2 having count(*) > 1""",
    "I3 an attempt was started twice": """select run_id, attempt from tasks_app_runevent
        where to_state = 'running' group by 1, 2 having count(*) > 1""",
    "I3 the attempt is not the number of starts": """select run.id from tasks_app_run run
        where run.attempt < (select count(*) from tasks_app_runevent where run_id = run.id and to_state = 'running')""",
    "I4 an event leaves a terminal state": f"select run_id from tasks_app_runevent where from_state in {TERMINAL}",
    "I7 the last event is not the state": """select run.id from tasks_app_run run
        where run.state <> (select to_state from tasks_app_runevent where run_id = run.id order by id desc limit 1)""",
    "I7 an event does not follow the one before": """select run_id from (select run_id, from_state,
        lag(to_state, 1, '') over (partition by run_id order by id) as before from tasks_app_runevent) chain
        where from_state <> before""",
    "I9 a start after a cancel": """select event.run_id from tasks_app_runevent event
        join tasks_app_run run on run.id = event.run_id
        where event.to_state = 'running' and event.at > run.cancel_requested_at""",
    "I10 a start before its upstream had succeeded": """select down.id from tasks_app_run down
        join tasks_app_rundependency edge on edge.downstream_id = down.id
        join tasks_app_run up on up.id = edge.upstream_id
        join tasks_app_runevent event on event.run_id = down.id and event.to_state = 'running'
        where down.trigger_rule = 'all_success'
        and (up.state <> 'succeeded' or up.finished_at > event.at)""",
    "I11 an active schedule looks back": """select id from tasks_app_schedule
        where enabled and next_fire_at < now() - interval '5 seconds'""",
}


def violations(rows: Callable[[str], list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """{invariant: offending rows} by a function that answers SQL on PostgreSQL; empty when all hold."""
    return {name: found for name, sql in VIOLATIONS.items() if (found := rows(sql))}
