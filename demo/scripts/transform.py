"""Find the next changes of the clock (daylight saving time) over all zones.

Reads zones.json, which extract.py wrote, and writes dst_changes.json to the work folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

HORIZON = timedelta(days=800)
STEP = timedelta(days=1)
SECOND = timedelta(seconds=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", default=os.environ.get("PARAM_WORK_DIR"), help="default: $PARAM_WORK_DIR")
    parser.add_argument("--count", type=int, default=20, help="how many changes (default: 20)")
    parser.add_argument(
        "--now",
        default=os.environ.get("SCHEDULER_NOMINAL_TIME") or None,
        help="ISO 8601 with offset; default: $SCHEDULER_NOMINAL_TIME, else the clock",
    )
    arguments = parser.parse_args()
    if not arguments.work_dir:
        parser.error("say where to read and write: --work-dir or PARAM_WORK_DIR")
    now = datetime.fromisoformat(arguments.now) if arguments.now else datetime.now(UTC)
    if now.tzinfo is None:
        parser.error("--now needs an offset, such as 2026-03-01T00:00:00Z")
    work_dir = Path(arguments.work_dir)
    zones = read_input(work_dir / "zones.json")["zones"]
    changes = next_changes(sorted(zones), now.astimezone(UTC).replace(microsecond=0), arguments.count)
    path = work_dir / "dst_changes.json"
    write_whole(path, json.dumps({"after": now.isoformat(), "changes": changes}, indent=1) + "\n")
    for change in changes:
        print(f"{change['at']}  {change['zone']:<24} {change['before']} -> {change['after']}")
    print(f"written: {path}")
    print(json.dumps({"changes": len(changes), "next": changes[0]["at"] if changes else None}))


def next_changes(zones: list[str], now: datetime, count: int) -> list[dict[str, str]]:
    """The first `count` changes after `now` over all zones, by instant, then by name of the zone."""
    found = sorted((at, zone) for zone in zones for at in changes_of(ZoneInfo(zone), now))
    return [
        {
            "at": at.isoformat().replace("+00:00", "Z"),
            "zone": zone,
            "before": offset(at - SECOND, ZoneInfo(zone)),
            "after": offset(at, ZoneInfo(zone)),
        }
        for at, zone in found[:count]
    ]


def changes_of(zone: ZoneInfo, now: datetime) -> Iterator[datetime]:
    """The instants within the horizon at which the zone's offset from UTC changes."""
    day = now
    while day < now + HORIZON:
        if day.astimezone(zone).utcoffset() != (day + STEP).astimezone(zone).utcoffset():
            yield change_between(zone, day, day + STEP)
        day += STEP


def change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second of the new offset, which applies at `after` and not yet at `before`."""
    old = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + timedelta(seconds=(after - before) // SECOND // 2)
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


def offset(at: datetime, zone: ZoneInfo) -> str:
    return f"UTC{at.astimezone(zone):%z}"


def read_input(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"transform: {path} is missing; run extract first.")
    except ValueError as error:
        sys.exit(f"transform: {path} is not JSON ({error}); run extract again.")


def write_whole(path: Path, text: str) -> None:
    """Write the file so that a reader finds either the old one or the new one, whole."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as fresh:
        fresh.write(text)
    Path(fresh.name).replace(path)


if __name__ == "__main__":
    main()
