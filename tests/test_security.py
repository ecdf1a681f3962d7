"""SECURITY.md promises nothing without a test and a row of the catalogue behind it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMISES = [line for line in (ROOT / "SECURITY.md").read_text("utf-8").splitlines() if line.startswith("| ")][2:]
BENCH = "".join(path.read_text("utf-8") for path in (ROOT / "tests" / "faults").glob("*.py"))
ROWS = set(re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "docs" / "reliability.md").read_text("utf-8"), re.MULTILINE))


def test_every_promise_names_its_row_and_its_tests():
    assert len(PROMISES) >= 10
    for promise in PROMISES:
        held = promise.split(" | ")[1]
        tests = re.findall(r"`(tests/[a-z_/]+\.py)`", held)
        ids = set(re.findall(r"\b[A-Z]\d+\b", held))
        assert tests, promise
        assert ids
        assert ids <= ROWS
        marked = "".join((ROOT / name).read_text("utf-8") for name in tests) + BENCH
        assert all(f'"{row}"' in marked for row in ids), promise
