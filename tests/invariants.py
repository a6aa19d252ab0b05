"""The invariants of SEMANTICS 2 that can be read from the rows alone; asked after every acceptance test, and at any
moment of one: each is a single statement, so it sees one state of the tables.

Not asked are I1 and I4: `run_once_per_instant` and `run_event_is_an_allowed_move` keep such rows out of the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks_app.states import TERMINAL

_ENDED = "(" + ", ".join(f"'{state.value}'" for state in sorted(TERMINAL)) + ")"
# The rules that may let a run start before all of its upstream runs have ended.
_EARLY_RULES = "('always', 'one_failed', 'one_success', 'one_done')"
_STARTS_BELOW = """select down.id from tasks_app_run down
    join tasks_app_rundependency edge on edge.downstream_id = down.id
    join tasks_app_run up on up.id = edge.upstream_id
    join tasks_app_runevent event on event.run_id = down.id and event.to_state = 'running'"""
# Each names what it found: no row is what is wanted.
VIOLATIONS = {
    "I3 an attempt was started twice": """select run_id, attempt from tasks_app_runevent
        where to_state = 'running' group by 1, 2 having count(*) > 1""",
    "I3 the attempt is not that of the last start or the next one": """select run.id from tasks_app_run run
        where run.attempt - (select count(*) from tasks_app_runevent where run_id = run.id and to_state = 'running')
        not in (0, 1)""",
    "I7 the last event is not the state": """select run.id from tasks_app_run run where run.state is distinct from
        (select to_state from tasks_app_runevent where run_id = run.id order by id desc limit 1)""",
    "I7 an event does not follow the one before": """select run_id from (select run_id, from_state,
        lag(to_state, 1, '') over (partition by run_id order by id) as before from tasks_app_runevent) chain
        where from_state is distinct from before""",
    "I9 a run that was asked to end waits for a start": """select id from tasks_app_run
        where cancel_requested_at is not null and state in ('waiting', 'queued')""",
    # Who cancels reads the clock before the run's row is theirs: a start may still come in between.
    "I9 a start after a cancel": """select event.run_id from tasks_app_runevent event
        join tasks_app_run run on run.id = event.run_id
        where event.to_state = 'running' and event.at > run.cancel_requested_at + interval '1 second'""",
    "I10 a start before its upstream had succeeded": f"""{_STARTS_BELOW}
        where down.trigger_rule = 'all_success' and (up.state <> 'succeeded' or up.finished_at > event.at)""",
    "I10 a start before its upstream had ended": f"""{_STARTS_BELOW}
        where down.trigger_rule not in {_EARLY_RULES} and (up.state not in {_ENDED} or up.finished_at > event.at)""",
    "I11 an active schedule looks back": """select id from tasks_app_schedule
        where enabled and next_fire_at < now() - interval '5 seconds'""",
}


def violations(rows: Callable[[str], list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """{invariant: offending rows} by a function that answers SQL on PostgreSQL; empty when all hold."""
    return {name: found for name, sql in VIOLATIONS.items() if (found := rows(sql))}
