"""How PostgreSQL would execute the statements that code sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection


def plans_of(call: Callable[[], object]) -> list[dict[str, Any]]:
    """The plan of every statement of `call` that reads or writes runs, as EXPLAIN (FORMAT JSON) gives it."""
    found: list[dict[str, Any]] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if '"tasks_app_run"' in sql or "tasks_app_run " in sql:
            execute("EXPLAIN (FORMAT JSON) " + sql, params, many, context)
            found.append(context["cursor"].fetchone()[0][0]["Plan"])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        call()
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node and all below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def indexes(plan: dict[str, Any]) -> set[str]:
    """The indexes that the plan reads."""
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}


def scanned_tables(plan: dict[str, Any]) -> set[str]:
    """The tables that the plan reads from end to end."""
    return {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
