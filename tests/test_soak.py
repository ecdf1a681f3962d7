"""The long run runs, and its published figures are of a whole one in which nothing grew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

sys.path.insert(0, str(ROOT / "bench"))
import soak  # noqa: E402  # no package


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system tells memory and descriptors otherwise")
def test_a_short_soak_leaves_no_connection_open(tmp_path):
    figures = tmp_path / "figures.json"
    program = [sys.executable, str(ROOT / "bench" / "soak.py"), "--calls=48", "--left=48", "--rounds=2"]
    subprocess.run([*program, "--write", str(figures)], capture_output=True, timeout=120, check=False)
    told = json.loads(figures.read_text("utf-8"))
    assert (told["calls"], told["left_streams"]) == (48, 48)
    assert told["descriptor_growth"] <= soak.MAY_GROW_DESCRIPTORS


@pytest.mark.fault("N8")
def test_the_published_figures_are_of_a_whole_run_in_which_nothing_grew():
    told = json.loads((ROOT / "docs" / "soak.json").read_text("utf-8"))
    assert told["calls"] >= 100_000
    assert told["left_streams"] >= 10_000
    assert told["memory_growth"] <= soak.MAY_GROW_BYTES
    assert told["descriptor_growth"] <= soak.MAY_GROW_DESCRIPTORS
