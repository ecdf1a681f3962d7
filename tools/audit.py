"""Asks the advisory database for known vulnerabilities of every package that `requirements/` names.

Ends with status 1 where there is one. A package that could not be looked up is never taken for a clean one: how many
there were, and why, is said in a line of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def judged(report: Mapping[str, Any] | None, said: str = "") -> tuple[str, int]:
    """What to print and the exit status, of pip-audit's report; None where it made none, and said why."""
    if report is None:
        lines = said.strip().splitlines()
        return f"audit: NOT DONE, nothing could be looked up: {lines[-1] if lines else 'no reason given'}", 0
    packages = report["dependencies"]
    found = [
        f"audit: {package['name']} {package['version']}: {flaw['id']}, fixed in {flaw['fix_versions'] or '?'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    skipped = [package for package in packages if "skip_reason" in package]
    lines = list(found)
    if looked_up := len(packages) - len(skipped):
        lines.append(f"audit: {looked_up} packages looked up, {len(found)} vulnerabilities")
    if skipped:
        lines.append(f"audit: NOT DONE for {len(skipped)} of {len(packages)}, such as: {skipped[0]['skip_reason']}")
    return "\n".join(lines), int(bool(found))


def main() -> int:
    """Look up, say what was found, and judge it."""
    files = [part for path in sorted((ROOT / "requirements").glob("*.txt")) for part in ("--requirement", str(path))]
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format", "json", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # no word of another's
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    text, status = judged(report, done.stderr)
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
