"""Finds code that writes `Run.state`, for the rule that transitions.py alone may do so."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

_WRITERS = {"update", "create", "update_or_create", "get_or_create", "Run", "aupdate", "acreate"}
_FIELD_WRITERS = {"save", "bulk_update", "bulk_create", "asave", "setattr", "__setattr__"}
_RUN_TABLE = r'(?:"?tasks_app_run"?)\b(?!_)'
_SQL = (
    re.compile(
        rf"\bUPDATE\s+{_RUN_TABLE}.*?\bSET\b(?P<columns>.*?)(?:\bFROM\b|\bWHERE\b|;|$)", re.IGNORECASE | re.DOTALL
    ),
    re.compile(
        rf"\bINSERT\s+INTO\s+{_RUN_TABLE}(?P<columns>.*?)(?:\bSELECT\b|\bVALUES\b|$)", re.IGNORECASE | re.DOTALL
    ),
)


def writes_of_run_state(code: str) -> list[tuple[int, str]]:
    """(line, source) of every statement that could change the state of a run, by ORM, attribute or SQL.

    Workers, backfills and requests for approval have a state too: what begins with one of these, names WorkerState or
    BackfillState or is called `worker` is theirs. An `outcome` is what transitions.py is asked to write.
    """
    tree = ast.parse(code)
    return sorted({(node.lineno, ast.unparse(node)[:120]) for node in _suspects(tree, _names_of_workers(tree))})


def _names_of_workers(tree: ast.AST) -> frozenset[str]:
    """What stands for workers, backfills or their state: classes, arguments annotated so, queries that begin there."""
    names = {"Worker", "WorkerState", "worker", "Backfill", "BackfillState", "ApprovalRequest"}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and _mentions(node.annotation, names):
            names.add(node.arg)
        elif isinstance(node, ast.Assign) and _root(node.value) in ("Worker", "Backfill", "ApprovalRequest"):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return frozenset(names)


def _suspects(tree: ast.AST, workers: frozenset[str]) -> Iterator[ast.expr | ast.stmt]:
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                suspect = _writes_by_keyword(node, workers) or _writes_by_field_name(node, workers)
            case ast.Assign() | ast.AugAssign():
                suspect = _assigns_state(node, workers)
            case ast.Constant() | ast.JoinedStr():
                suspect = _is_writing_sql(_text(node))
            case _:
                continue
        if suspect:
            yield node


def _writes_by_keyword(call: ast.Call, workers: frozenset[str]) -> bool:
    if _called(call) not in _WRITERS or _root(call) in workers:
        return False
    return any(word.arg == "state" and not _mentions(word.value, workers) for word in call.keywords)


def _writes_by_field_name(call: ast.Call, workers: frozenset[str]) -> bool:
    if _called(call) not in _FIELD_WRITERS or _mentions(call, workers):
        return False
    arguments = [*call.args, *(word.value for word in call.keywords)]
    return any(isinstance(n, ast.Constant) and n.value == "state" for arg in arguments for n in ast.walk(arg))


def _assigns_state(statement: ast.Assign | ast.AugAssign, workers: frozenset[str]) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    attributes = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Attribute) and n.attr == "state"]
    return any("outcome" not in ast.unparse(a.value) for a in attributes) and not _mentions(statement, workers)


def _mentions(node: ast.AST | None, names: Collection[str]) -> bool:
    return node is not None and any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))


def _root(node: ast.AST) -> str:
    """The name that a chain such as `Worker.objects.filter(...).update(...)` begins with."""
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_writing_sql(text: str) -> bool:
    return any(
        re.search(r"\bstate\b(?!\s*\|\|)", match["columns"]) for pattern in _SQL for match in pattern.finditer(text)
    )


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def _called(call: ast.Call) -> str:
    function = call.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
