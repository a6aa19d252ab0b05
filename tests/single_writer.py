"""Finds code that writes `Run.state`, for the rule that transitions.py alone may do so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

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

    Workers have a state too: a value that names WorkerState, or an object called `worker`, is theirs. An `outcome` is
    what transitions.py is asked to write.
    """
    tree = ast.parse(code)
    return sorted({(node.lineno, ast.unparse(node)[:120]) for node in _suspects(tree)})


def _suspects(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    for node in ast.walk(tree):
        match node:
            case ast.Call():
                suspect = _writes_by_keyword(node) or _writes_by_field_name(node)
            case ast.Assign() | ast.AugAssign():
                suspect = _assigns_state(node)
            case ast.Constant() | ast.JoinedStr():
                suspect = _is_writing_sql(_text(node))
            case _:
                continue
        if suspect:
            yield node


def _writes_by_keyword(call: ast.Call) -> bool:
    if _called(call) not in _WRITERS:
        return False
    return any(word.arg == "state" and not _is_of_a_worker(word.value) for word in call.keywords)


def _writes_by_field_name(call: ast.Call) -> bool:
    if _called(call) not in _FIELD_WRITERS or _is_of_a_worker(call):
        return False
    arguments = [*call.args, *(word.value for word in call.keywords)]
    return any(isinstance(n, ast.Constant) and n.value == "state" for arg in arguments for n in ast.walk(arg))


def _assigns_state(statement: ast.Assign | ast.AugAssign) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    attributes = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Attribute) and n.attr == "state"]
    return any("outcome" not in ast.unparse(a.value) for a in attributes) and not _is_of_a_worker(statement)


def _is_of_a_worker(node: ast.AST) -> bool:
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return bool(names & {"WorkerState", "worker"})


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
