"""What is published: the wheel holds the package and nothing else, the source archive what the tests need too."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "allos"

pytestmark = pytest.mark.skipif(not PACKAGE.is_dir(), reason="the package's sources are not beside the tests")


def sources(folder: str) -> set[str]:
    """The files of a folder that belong to the project."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(ROOT).as_posix() for path in found}


@pytest.mark.fault("D3")
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (made,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(made) as wheel:
        names = set(wheel.namelist())
        record = next(name for name in names if name.endswith(".dist-info/RECORD"))
        entry_points = wheel.read(record.replace("RECORD", "entry_points.txt")).decode()
    folder = record.rpartition("/")[0]
    assert {name for name in names if not name.startswith(f"{folder}/")} == sources("allos")
    assert {"allos/py.typed", "allos/endpoints.toml", "allos/templates/smollm2.jinja"} <= names
    assert not any(name.endswith((".pth", ".so")) for name in names)
    assert entry_points.split() == ["[console_scripts]", "allos", "=", "allos.cli:main"]


def test_the_source_archive_can_be_tested(tmp_path: Path) -> None:
    from hatchling.builders.sdist import SdistBuilder

    (made,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("allos", "bench", "cassettes", "docs", "requirements", "scripts", "tests", "tools"):
        assert sources(folder) <= names, folder
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "SECURITY.md",
        "mkdocs.yml",
        "pyproject.toml",
    } <= names


@pytest.mark.fault("D2")
def test_every_dependency_has_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {requirement.partition(">=")[0] for requirement in project["dependencies"]}
    assert names == {"openai", "pydantic-settings", "click", "tenacity", "platformdirs"}
    assert all(">=" in requirement and ",<" in requirement for requirement in project["dependencies"])
    assert all(">=" in requirement for extra in project["optional-dependencies"].values() for requirement in extra)
