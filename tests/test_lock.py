"""What is installed to work on Allos is locked to the byte, and asked for known vulnerabilities."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "requirements"
GROUPS = ["audit", "build", "docs", "lint", "lock", "test"]

sys.path.insert(0, str(ROOT / "tools"))
import audit  # noqa: E402  # a tool, no package


def pins(name: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each pin of a locked file with its hashes."""
    text = (LOCKED / f"{name}.txt").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin, *hashes = line.split(" --hash=")
            yield Requirement(pin.strip()), [told.strip() for told in hashes]


def wanted(name: str) -> list[Requirement]:
    """What pyproject.toml asks for in the environment that a locked file stands for."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    if name != "allos":
        return [Requirement(text) for text in said["dependency-groups"][name]]
    project = said["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["local"]]
    return [Requirement(text) for text in (*texts, *said["dependency-groups"]["editable"])]


def test_every_environment_of_a_developer_has_its_locked_file():
    assert sorted(path.stem for path in LOCKED.iterdir()) == sorted(["allos", "pip", *GROUPS])


@pytest.mark.parametrize("name", ["allos", *GROUPS])
def test_the_locked_files_hold_what_the_project_asks_for(name):
    locked = {canonicalize_name(pin.name): pin for pin, _ in pins(name)}
    for requirement in wanted(name):
        (exact,) = locked[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(exact.version), f"{requirement}, locked {exact}: `make lock` renews it"


@pytest.mark.parametrize("name", ["allos", "pip", *GROUPS])
def test_every_package_is_locked_by_version_and_hash_and_names_no_place_to_get_it_from(name):
    found = list(pins(name))
    assert found
    for pin, hashes in found:
        assert [(part.operator, "*" in part.version) for part in pin.specifier] == [("==", False)]
        assert pin.url is None
        assert hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", told) for told in hashes)
    assert "://" not in (LOCKED / f"{name}.txt").read_text("utf-8")


def test_no_two_locked_files_disagree():
    versions: dict[tuple[str, str], set[str]] = {}
    for name in ("allos", "pip", *GROUPS):
        for pin, _ in pins(name):
            versions.setdefault((canonicalize_name(pin.name), str(pin.marker)), set()).add(str(pin.specifier))
    assert not {key: found for key, found in versions.items() if len(found) > 1}


def test_nothing_is_installed_to_work_on_allos_but_what_is_locked():
    setup = (ROOT / "Makefile").read_text("utf-8")
    installs = re.findall(r"\$\(PIP\) install (.*)", setup)
    assert installs
    assert all("--require-hashes" in given or "--no-deps --no-build-isolation" in given for given in installs)


CLEAN = {"name": "click", "version": "8.5.1", "vulns": []}
FLAWED = {"name": "h11", "version": "0.1", "vulns": [{"id": "GHSA-1", "fix_versions": ["0.16"]}]}
SKIPPED = {"name": "idna", "skip_reason": "not found"}


def test_an_audit_fails_for_a_known_vulnerability():
    text, status = audit.judged({"dependencies": [CLEAN, FLAWED]})
    assert status == 1
    assert "h11 0.1: GHSA-1, fixed in ['0.16']" in text


def test_what_could_not_be_audited_is_said_and_never_taken_for_clean():
    assert audit.judged({"dependencies": [CLEAN]}) == ("audit: 1 packages looked up, 0 vulnerabilities", 0)
    for report, said in (({"dependencies": [CLEAN, SKIPPED]}, ""), ({"dependencies": [SKIPPED]}, ""), (None, "no net")):
        text, status = audit.judged(report, said)
        assert status == 0
        assert "NOT DONE" in text.splitlines()[-1]
    assert audit.judged({"dependencies": [FLAWED, SKIPPED]})[1] == 1
