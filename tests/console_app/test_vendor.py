"""The committed front-end libraries are those that the manifest names."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vendor", ROOT / "scripts" / "vendor.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["vendor"] = module
    spec.loader.exec_module(module)
    return module


vendor = _load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "static" / "vendor", tmp_path / "vendor"))


def test_the_committed_files_are_those_of_the_manifest() -> None:
    assert list(vendor.differences(ROOT / "static" / "vendor")) == []
    assert vendor.main(["--check"]) == 0


def test_a_changed_file_fails_the_check(folder: Path) -> None:
    (folder / "htmx" / "htmx.min.js").write_bytes(b"var htmx")
    assert vendor.main(["--check", "--folder", str(folder)]) == 1
    assert [sentence.split(" ")[0] for sentence in vendor.differences(folder)] == ["htmx/htmx.min.js"]


def test_a_missing_file_and_a_stray_file_fail_the_check(folder: Path) -> None:
    (folder / "htmx" / "LICENSE").unlink()
    (folder / "htmx" / "extra.js").write_text("")
    assert sorted(sentence.split(" ")[0] for sentence in vendor.differences(folder)) == [
        "htmx/LICENSE",
        "htmx/extra.js",
    ]
