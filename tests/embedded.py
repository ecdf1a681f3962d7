"""The embedded model in a test's own home."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from allos import weights
from allos.errors import ConfigurationError


def _weights() -> dict[str, Path]:
    try:
        return {model.name: model.path for model in weights.models()}
    except ConfigurationError:  # a user without a home
        return {}


WEIGHTS = _weights()  # those of the person who runs the tests, before each test has a home of its own


def bring(name: str, home: Path | None = None) -> Path:
    """Bring the weights into that home, or the test's; skips the test where they or the engine are missing."""
    if find_spec("xllamacpp") is None:
        pytest.skip('the engine is not installed: pip install "allos[local]"')
    if not (name in WEIGHTS and WEIGHTS[name].is_file()):
        pytest.skip(f"the weights are not here: allos local pull {name}")
    path = weights.find(name).path
    if home is not None:
        path = home / path.relative_to(Path.home())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(WEIGHTS[name])
    return WEIGHTS[name]
