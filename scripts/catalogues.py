"""The translation catalogues: `python -m scripts.catalogues` collects and compiles, `--check` says what is out of date.

The compiled `.mo` files are kept in the repository, so that `make run` needs nothing but Python. Without gettext's
programs the check cannot run; it says so, and fails when CI is set.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.test_services import install, is_installed

ROOT = Path(__file__).resolve().parent.parent
LOCALES = ROOT / "locale"
LANGUAGES = ("zh_Hans",)
IGNORED = ("--ignore=.venv/*", "--ignore=var/*", "--ignore=tests/*", "--ignore=benchmarks/*", "--ignore=staticfiles/*")


def collect(root: Path) -> None:
    """Bring `root`/locale up to date with the texts in the source below `root`, and compile it."""
    (root / "locale").mkdir(exist_ok=True)
    languages = [f"--locale={language}" for language in LANGUAGES]
    _run(root, "makemessages", *languages, "--no-obsolete", "--no-wrap", "--add-location=file", *IGNORED)
    for catalogue in _catalogues(root / "locale"):
        # The date of collecting would make every catalogue differ from the last one.
        text = re.sub(r'^"POT-Creation-Date:.*\n', "", catalogue.read_text(), flags=re.MULTILINE)
        catalogue.write_text(text)
    _run(root, "compilemessages", *languages)


def problems() -> Iterator[str]:
    """What is wrong with the catalogues, one sentence each; nothing when all is well."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "source"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "var", "tests", "node_modules", ".*_cache")
        )
        collect(copy)
        for fresh in _catalogues(copy / "locale"):
            ours = LOCALES / fresh.relative_to(copy / "locale")
            if not ours.exists() or not filecmp.cmp(fresh, ours, shallow=False):
                yield f"{ours.relative_to(ROOT)} does not match the source; run `make messages`."
            compiled = ours.with_suffix(".mo")
            if not compiled.exists() or not filecmp.cmp(fresh.with_suffix(".mo"), compiled, shallow=False):
                yield f"{compiled.relative_to(ROOT)} is not compiled from its source; run `make messages`."
            yield from _untranslated(fresh, ours.relative_to(ROOT))


def main(arguments: list[str]) -> int:
    """Collect, or check with `--check`; 0 when all is well, 1 otherwise."""
    if not is_installed("gettext"):
        install(["gettext"])
    if not is_installed("gettext"):
        print("NOT RUN: the check of the catalogues, gettext is not installed", file=sys.stderr)
        return int(bool(os.environ.get("CI")) or "--check" not in arguments)
    if "--check" not in arguments:
        collect(ROOT)
        return 0
    found = list(problems())
    print("\n".join(found) or "Catalogues are up to date.")
    return int(bool(found))


def _catalogues(locales: Path) -> list[Path]:
    return sorted(locales.glob("*/LC_MESSAGES/*.po"))


def _untranslated(catalogue: Path, name: Path) -> Iterator[str]:
    command = ["msgfmt", "--statistics", "--check", "--output-file=/dev/null", str(catalogue)]
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    ).stderr
    if "untranslated" in told or "fuzzy" in told or "error" in told:
        yield f"{name}: {told.strip()}"


def _run(root: Path, command: str, *arguments: str) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": "sqlite:///:memory:",
        "SCHEDULER_SECRET_KEY": "catalogues-only-" + "0" * 50,
    }
    done = subprocess.run(
        [sys.executable, "manage.py", command, *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"manage.py {command} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
