"""What every benchmark stands on: a template database for its stacks, and the options that all of them take."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import environment, services


@contextmanager
def template() -> Iterator[tuple[Path, str]]:
    """A directory for logs and a migrated database for stacks to copy; both are gone afterwards."""
    environment.prepare()
    with ExitStack() as undo:
        undo.callback(environment.forget)
        directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        name = f"test_scheduler_{os.getpid()}_bench"
        undo.callback(environment.administer, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        services.create_template(name, directory)
        yield directory, name


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with `--short` and `--json`; `text` is the docstring of the benchmark."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--short", action="store_true", help="little of everything: does it work, not how fast is it")
    made.add_argument("--json", action="store_true", help="JSON instead of the table")
    return made


def options(made: argparse.ArgumentParser, short: Mapping[str, int]) -> argparse.Namespace:
    """The options as given, with those of `short` in their place where that is asked for."""
    given = made.parse_args()
    if given.short:
        vars(given).update(short)
    return given
