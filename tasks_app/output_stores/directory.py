"""Objects as files below one directory, which all processes must share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tasks_app.output_stores import StoreFault


class DirectoryStore:
    """A file appears whole or not at all."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    def put(self, key: str, data: bytes) -> None:
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd, fresh = tempfile.mkstemp(dir=path.parent, prefix=".")
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                Path(fresh).replace(path)
            except OSError:
                Path(fresh).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StoreFault(f"{path}: {error.strerror}") from error

    def get(self, key: str) -> bytes:
        try:
            return (self._root / key).read_bytes()
        except OSError as error:
            raise StoreFault(f"{self._root / key}: {error.strerror}") from error

    def delete(self, key: str) -> None:
        try:
            (self._root / key).unlink(missing_ok=True)
        except OSError as error:
            raise StoreFault(f"{self._root / key}: {error.strerror}") from error
