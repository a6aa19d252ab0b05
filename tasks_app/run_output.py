"""The output of a run, an attempt at a time, wherever it is kept: lines by number, the end of it, a search in it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Max, Sum, TextField
from django.db.models.functions import Cast, Length

from tasks_app.errors import OutputUnavailable
from tasks_app.models import Run, RunOutput, StoredOutput
from tasks_app.output_stores import Store, StoreFault, store_at
from tasks_app.states import TERMINAL, RunState

log = structlog.get_logger(__name__)
MAX_BATCH_LINES = 500
CHUNK_LINES = 2000
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def shown_attempt(run: Run) -> int:
    """The attempt whose output a reader wants: the one under way, or the last one that ended."""
    return run.attempt - 1 if run.state == RunState.WAITING and run.attempt > 1 else run.attempt


def log_lines(run: Run, *, offset: int, limit: int, attempt: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Output lines `offset` .. `offset + limit - 1` of an attempt as {n, at, stream, text}, and the next offset.

    Raises OutputUnavailable when they lie in a store that does not answer.
    """
    shown = shown_attempt(run) if attempt is None else attempt
    batches = RunOutput.objects.filter(run=run, attempt=shown, first_line__lt=offset + limit).order_by("first_line")
    # The batch that holds `offset` begins before it; batches are at most MAX_BATCH_LINES long.
    batches = batches.filter(first_line__gt=offset - MAX_BATCH_LINES)
    lines = [
        {"n": batch.first_line + i, "at": at, "stream": stream, "text": text}
        for batch in batches
        for i, (at, stream, text) in enumerate(batch.lines)
        if offset <= batch.first_line + i < offset + limit
    ]
    # Asked second: output that is being moved is found in its new place.
    if not lines and (stored := _stored(run, shown)) is not None and offset < stored.line_count:
        part = _read(stored.store, stored.key)[offset : offset + limit]
        lines = [
            {"n": offset + i, "at": at, "stream": stream, "text": text} for i, (at, stream, text) in enumerate(part)
        ]
    return lines, (lines[-1]["n"] + 1 if lines else offset)


def line_count(run: Run, attempt: int) -> int:
    """How many lines there are by now."""
    rows = RunOutput.objects.filter(run=run, attempt=attempt)
    total = rows.aggregate(total=Max(F("first_line") + F("line_count")))["total"]
    if total is None and (stored := _stored(run, attempt)) is not None:
        return stored.line_count
    return total or 0


def log_truncated(run: Run, attempt: int | None = None) -> bool:
    """Whether some of the attempt's output was left out for its size."""
    shown = shown_attempt(run) if attempt is None else attempt
    if RunOutput.objects.filter(run=run, attempt=shown, truncated=True).exists():
        return True
    stored = _stored(run, shown)
    return stored is not None and stored.truncated


def chunks(run: Run, attempt: int, *, offset: int = 0) -> Iterator[list[dict[str, Any]]]:
    """All lines from `offset` on, CHUNK_LINES at a time."""
    while True:
        found, offset = log_lines(run, offset=offset, limit=CHUNK_LINES, attempt=attempt)
        if not found:
            return
        yield found


def find_lines(
    run: Run, attempt: int, text: str, *, offset: int = 0, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The first `limit` lines from `offset` on that hold the text, in upper or lower case and whatever their colours.

    Also where to search on, or None when all of the output has been searched.
    """
    wanted = text.casefold()
    found: list[dict[str, Any]] = []
    for part in chunks(run, attempt, offset=offset):
        for line in part:
            if wanted in _ESCAPES.sub("", line["text"]).casefold():
                if len(found) == limit:
                    return found, line["n"]
                found.append(line)
    return found, None


def move_out(run_id: int, attempt: int, store: Store) -> int:
    """Move the output of an attempt that is over into the store; the bytes that it takes there, 0 for nothing to move.

    First the object, then in one transaction the row that names it in place of the lines: whatever happens between, the
    output is in one of the two places. Raises StoreFault.
    """
    batches = list(RunOutput.objects.filter(run=run_id, attempt=attempt).order_by("first_line"))
    if not batches:
        return 0
    lines = [line for batch in batches for line in batch.lines]
    data = gzip.compress(json.dumps(lines, separators=(",", ":")).encode("utf-8", "surrogatepass"), mtime=0)
    key = f"runs/{run_id // 1000:06d}/{run_id}-{attempt}.json.gz"
    store.put(key, data)
    with transaction.atomic():
        # Locked, as its row has no constraint that would keep the run: it may be deleted as one of long ago just now.
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id)
        if run.values_list("pk", flat=True).first() is None:
            store.delete(key)
            return 0
        StoredOutput.objects.update_or_create(
            run_id=run_id,
            attempt=attempt,
            defaults={
                "store": store.name,
                "key": key,
                "line_count": len(lines),
                "size": len(data),
                "truncated": any(batch.truncated for batch in batches),
            },
        )
        RunOutput.objects.filter(pk__in=[batch.pk for batch in batches]).delete()
    return len(data)


def remove_objects_of(run_ids: Collection[int]) -> None:
    """Remove the output of these runs from the stores it lies in, once the current transaction has deleted them. An
    object whose store does not answer then is left behind; the log names it."""
    rows = StoredOutput.objects.filter(run__in=run_ids)
    if objects := list(rows.values_list("store", "key")):
        transaction.on_commit(lambda: _remove(objects))


def _remove(objects: Sequence[tuple[str, str]]) -> None:
    away: set[str] = set()
    for place, key in objects:
        store = store_at(place)
        try:
            # One that did not answer is not waited for a thousand times.
            if store is None or place in away:
                raise StoreFault("the store did not answer before" if store else f"{place} is no store")
            store.delete(key)
        except StoreFault as error:
            away.add(place)
            log.warning("stored output of a deleted run is left behind", store=place, key=key, error=str(error))


def left_behind(*, larger_than: int, limit: int) -> list[tuple[int, int]]:
    """(run, attempt) of runs that are over and whose output in the database is larger than so many bytes."""
    size = Sum(Length(Cast("lines", TextField())))
    over = RunOutput.objects.filter(run__state__in=sorted(TERMINAL)).order_by()
    found = over.values("run", "attempt").annotate(size=size).filter(size__gt=larger_than).order_by("run", "attempt")
    return [(row["run"], row["attempt"]) for row in found[:limit]]


def _stored(run: Run, attempt: int) -> StoredOutput | None:
    return StoredOutput.objects.filter(run=run, attempt=attempt).first()


@lru_cache(maxsize=8)
def _read(place: str, key: str) -> list[list[str]]:
    """The lines of a stored object, remembered: who pages through them asks for it again and again."""
    store = store_at(place)
    try:
        if store is None:
            raise StoreFault(f"{place} is no store")
        lines: list[list[str]] = json.loads(gzip.decompress(store.get(key)))
    except (StoreFault, OSError, EOFError, ValueError) as error:
        # Where it lies is for those who run the installation to know.
        log.error("stored output cannot be read", store=place, key=key, error=str(error))
        raise OutputUnavailable from error
    return lines
