"""Fetching front-end libraries: a file that a package does not have is named."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from scripts.vendor import VendoredFile, _copy


@pytest.mark.parametrize("source", ["dist/gone.js", "dist"])
def test_a_file_that_is_not_in_the_package_is_named_in_one_sentence(tmp_path, source):
    inside = tmp_path / "package" / "dist"
    inside.mkdir(parents=True)
    (inside / "kept.js").write_text("1")
    archive = tmp_path / "library.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "package", arcname="package")
    with pytest.raises(SystemExit, match=f"library@1 has no file {source}"):
        _copy(archive, VendoredFile("library@1", source, "x.js", "0"), Path(tmp_path / "out"))
