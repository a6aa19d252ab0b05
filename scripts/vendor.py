"""Fetch the front-end libraries named in static/vendor/vendor.toml, or check those that are committed.

python scripts/vendor.py            download with `npm pack`, verify each file's SHA-256, copy below static/vendor
python scripts/vendor.py --check    hash the committed files again, without network; exit 1 on any difference
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VENDOR_DIR = Path(__file__).resolve().parent.parent / "static" / "vendor"
MANIFEST = "vendor.toml"


@dataclass(frozen=True)
class VendoredFile:
    """One file: its library as `name@version`, its path in the package, its path below the vendor folder."""

    library: str
    source: str
    target: str
    sha256: str


def read_manifest(folder: Path) -> list[VendoredFile]:
    """All files of the manifest in `folder`; raises KeyError when an entry lacks a field."""
    manifest = tomllib.loads((folder / MANIFEST).read_text())
    return [
        VendoredFile(f"{library['name']}@{library['version']}", entry["from"], entry["to"], entry["sha256"])
        for library in manifest["library"]
        for entry in library["files"]
    ]


def differences(folder: Path) -> Iterator[str]:
    """One sentence per committed file that is missing, changed, or not in the manifest."""
    files = read_manifest(folder)
    for file in files:
        path = folder / file.target
        if not path.is_file():
            yield f"{file.target} is missing ({file.library})"
        elif (actual := _sha256(path.read_bytes())) != file.sha256:
            yield f"{file.target} is not the file of {file.library}: SHA-256 {actual}, expected {file.sha256}"
    known = {folder / file.target for file in files} | {folder / MANIFEST}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in known:
            yield f"{path.relative_to(folder)} is not in {MANIFEST}"


def fetch(folder: Path) -> None:
    """Download every library and copy its verified files; raises SystemExit on the first wrong hash."""
    files = read_manifest(folder)
    for library in dict.fromkeys(file.library for file in files):
        with tempfile.TemporaryDirectory() as scratch:
            package = _npm_pack(library, Path(scratch))
            for file in files:
                if file.library == library:
                    _copy(package, file, folder)
        print(f"{library}: verified and copied")


def _npm_pack(library: str, scratch: Path) -> Path:
    command = ["npm", "pack", "--silent", "--ignore-scripts", library]
    packed = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True)
    return scratch / packed.stdout.strip().splitlines()[-1]


def _copy(package: Path, file: VendoredFile, folder: Path) -> None:
    with tarfile.open(package) as archive:
        try:
            member = archive.extractfile(f"package/{file.source}")
        except KeyError:
            member = None
        if member is None:
            raise SystemExit(f"{file.library} has no file {file.source}")
        content = member.read()
    if (actual := _sha256(content)) != file.sha256:
        raise SystemExit(f"{file.library}: {file.source} has SHA-256 {actual}, expected {file.sha256}; nothing copied")
    target = folder / file.target
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Fetch or check the vendored front-end libraries.")
    parser.add_argument("--check", action="store_true", help="hash the committed files again, offline")
    parser.add_argument("--folder", type=Path, default=VENDOR_DIR, help="the folder with vendor.toml")
    options = parser.parse_args(arguments)
    if not options.check:
        fetch(options.folder)
    found = list(differences(options.folder))
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
