"""Measures what comes of the recorded exchanges, and writes the figures into `docs/compatibility.md`.

`ALLOS_RECORDINGS` names the folder of the recordings.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import figures  # noqa: E402  # stands among the tests, which compare the page
from plain_chat import FOLDER  # noqa: E402
from recorded import load  # noqa: E402

if __name__ == "__main__":
    if not load():
        sys.exit(f"There are no recordings in {FOLDER}. Set ALLOS_RECORDINGS to their folder.")
    warnings.simplefilter("ignore")  # pydantic's, about what the SDK alone makes of odd answers
    page = ROOT / "docs" / "compatibility.md"
    page.write_text(page.read_text("utf-8").partition(figures.BEGIN)[0] + "\n".join(figures.generated()), "utf-8")
    print(f"{page} was written anew")
