"""`docs/reliability.md` names every fault once, a test stands behind each, and its figures are of today's scenarios."""

from __future__ import annotations

import re
from collections import Counter

from recorded import ROOT
from scenarios import SCENARIOS
from tally import BEGIN, cases

PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
CATALOGUE, _, FIGURES = PAGE.partition(BEGIN)
ROWS = re.findall(r"^\| ([A-Z]\d+) \|", CATALOGUE, re.MULTILINE)


def marked() -> set[str]:
    """The rows of which a test outside the bench says that it holds them."""
    files = (ROOT / "tests").rglob("test_*.py")
    return {
        row for file in files for row in re.findall(r'^@pytest\.mark\.fault\("(\w+)"\)', file.read_text("utf-8"), re.M)
    }


def test_every_row_of_the_catalogue_has_a_test_and_every_test_its_row() -> None:
    assert Counter(ROWS).most_common(1)[0][1] == 1
    assert set(ROWS) == {scenario.row for scenario in SCENARIOS} | marked()


def test_no_two_scenarios_have_one_name() -> None:
    assert Counter(scenario.id for scenario in SCENARIOS).most_common(1)[0][1] == 1


def test_the_figures_are_those_of_the_scenarios_that_there_are() -> None:
    measured = dict(re.findall(r"^\| ([A-Z]\d+) \| (\d+) \|", FIGURES, re.MULTILINE))
    assert set(measured) == {scenario.row for scenario in SCENARIOS}, "Run `python tools/reliability.py`"
    assert f"{sum(1 for _ in cases())} faults" in FIGURES, "Run `python tools/reliability.py`"


def test_nothing_passes_silently_hangs_or_is_foreign_in_the_figures() -> None:
    (line,) = re.findall(r"^\| \*\*Allos, all doors\*\* \|(.*)\|$", FIGURES, re.MULTILINE)
    tried, right, helpful, silent, hangs, foreign = (cell.split()[0] for cell in line.split("|"))
    assert tried == right == helpful
    assert silent == hangs == foreign == "0"
