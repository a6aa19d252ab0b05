"""Count the time zones of each country in the IANA tables of the tzdata package.

Reads zone1970.tab (zone.tab where there is none) and iso3166.tab; writes zones.json to the work folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", default=os.environ.get("PARAM_WORK_DIR"), help="default: $PARAM_WORK_DIR")
    work_dir = parser.parse_args().work_dir
    if not work_dir:
        parser.error("say where to write: --work-dir or PARAM_WORK_DIR")
    zones = count_zones()
    path = Path(work_dir) / "zones.json"
    write_whole(path, json.dumps(zones, indent=1, ensure_ascii=False) + "\n")
    most = max(zones["countries"], key=lambda country: len(country["zones"]))
    print(
        f"tzdata {zones['tzdata']}, {zones['table']}: {len(zones['zones'])} zones, {len(zones['countries'])} countries"
    )
    print(f"most zones: {most['name']} with {len(most['zones'])}")
    print(f"written: {path}")
    print(json.dumps({"zones": len(zones["zones"]), "countries": len(zones["countries"])}))


def count_zones() -> dict[str, Any]:
    """The zones, and those of each country, in the order of the country codes."""
    tables = resources.files("tzdata").joinpath("zoneinfo")
    table = next((name for name in ("zone1970.tab", "zone.tab") if tables.joinpath(name).is_file()), None)
    if table is None:
        sys.exit("extract: the tzdata package has neither zone1970.tab nor zone.tab.")
    names = {code: name for code, name, *_ in rows(tables, "iso3166.tab")}
    zones: dict[str, list[str]] = {}
    for codes, _place, zone, *_comments in rows(tables, table):
        zones[zone] = codes.split(",")
    countries: dict[str, list[str]] = {}
    for zone, codes_of_zone in sorted(zones.items()):
        for code in codes_of_zone:
            countries.setdefault(code, []).append(zone)
    return {
        "tzdata": metadata.version("tzdata"),
        "table": table,
        "zones": zones,
        "countries": [
            {"code": code, "name": names.get(code, code), "zones": countries[code]} for code in sorted(countries)
        ],
    }


def rows(tables: Traversable, name: str) -> list[list[str]]:
    """The tab-separated rows of a table, without its comments."""
    try:
        text = tables.joinpath(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        sys.exit(f"extract: the tzdata package has no {name}.")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


def write_whole(path: Path, text: str) -> None:
    """Write the file so that a reader finds either the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as fresh:
        fresh.write(text)
    Path(fresh.name).replace(path)


if __name__ == "__main__":
    main()
