"""Write a readable report about the world's time zones.

Reads zones.json (of extract.py) and dst_changes.json (of transform.py); writes report.md to the work folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

MOST_COUNTRIES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", default=os.environ.get("PARAM_WORK_DIR"), help="default: $PARAM_WORK_DIR")
    work_dir = parser.parse_args().work_dir
    if not work_dir:
        parser.error("say where to read and write: --work-dir or PARAM_WORK_DIR")
    zones = read_input(Path(work_dir) / "zones.json", "extract")
    changes = read_input(Path(work_dir) / "dst_changes.json", "transform")
    text = report(zones, changes)
    path = Path(work_dir) / "report.md"
    write_whole(path, text)
    print(text)
    print(json.dumps({"report": str(path), "countries": len(zones["countries"]), "changes": len(changes["changes"])}))


def report(zones: dict[str, Any], changes: dict[str, Any]) -> str:
    """The report as Markdown."""
    countries = sorted(zones["countries"], key=lambda country: (-len(country["zones"]), country["name"]))
    names = {country["code"]: country["name"] for country in countries}
    lines = [
        "# Time zones of the world",
        "",
        f"tzdata {zones['tzdata']}: {len(zones['zones'])} zones in {len(countries)} countries.",
        "",
        "## Countries with the most zones",
        "",
        "| country | zones |",
        "|---|---:|",
        *(f"| {country['name']} | {len(country['zones'])} |" for country in countries[:MOST_COUNTRIES]),
        "",
        f"## The next {len(changes['changes'])} changes of the clock after {changes['after']}",
        "",
        "| at | zone | country | offset |",
        "|---|---|---|---|",
    ]
    for change in changes["changes"]:
        country = names.get(zones["zones"].get(change["zone"], [""])[0], "")
        lines.append(f"| {change['at']} | {change['zone']} | {country} | {change['before']} → {change['after']} |")
    return "\n".join([*lines, ""])


def read_input(path: Path, writer: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"report: {path} is missing; run {writer} first.")
    except ValueError as error:
        sys.exit(f"report: {path} is not JSON ({error}); run {writer} again.")


def write_whole(path: Path, text: str) -> None:
    """Write the file so that a reader finds either the old one or the new one, whole."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as fresh:
        fresh.write(text)
    Path(fresh.name).replace(path)


if __name__ == "__main__":
    main()
