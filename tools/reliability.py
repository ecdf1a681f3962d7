"""Plays every fault to every door and to the bare SDK, and writes the figures into `docs/reliability.md`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

import tally  # noqa: E402  # stands among the tests, which compare the page

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # about fields that a scenario's service can't take
    page = ROOT / "docs" / "reliability.md"
    page.write_text(page.read_text("utf-8").partition(tally.BEGIN)[0] + "\n".join(tally.generated()), "utf-8")
    print(f"{page} was written anew")
