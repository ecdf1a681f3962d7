"""Imports run one way, and what must stay cheap or pure imports nothing that is not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import allos

PACKAGE = Path(allos.__file__).parent
# A module may import what stands before it, and its own kind. `errors` may be imported by all.
LAYERS = [
    ["errors"],
    ["messages"],
    ["wire"],
    ["endpoints", "keys"],
    ["settings"],
    ["transport", "tools", "store", "arguments"],
    ["deadline", "drain"],
    ["redirects"],
    ["failures", "weights", "adapters"],
    ["ladder"],
    ["talk"],
    ["retry", "exchange", "state", "local"],
    ["fallback"],
    ["caller", "receipts"],
    ["stream"],
    ["client"],
    ["dropin"],
    ["probe"],
    ["cli"],
    ["__init__", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PURE = ("errors", "messages", "wire", "endpoints")


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, *, lazily: bool = True):
    """The modules that a file imports, without those for type checkers; `lazily` counts those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        if is_for_types or (not lazily and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            skipped |= {id(inner) for child in getattr(node, "body", []) for inner in ast.walk(child)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "allos":
                yield from (f"allos.{name.name}" for name in node.names)
            else:
                yield str(node.module)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_below_it(path: Path):
    own = room(path)
    assert own in RANK, f"{own} has no layer: give it one"
    for name in imported(path, lazily=own != "__init__"):
        root, _, rest = name.partition(".")
        if root != "allos" or not rest or rest.startswith("__"):
            continue
        below = rest.partition(".")[0]
        assert below == own or RANK[below] < RANK[own], f"{own} imports {below}, which stands above or beside it"


@pytest.mark.parametrize(
    "path", [path for path in modules() if room(path) in PURE], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_values_the_wires_and_the_table_know_no_sdk_and_do_no_network(path: Path):
    roots = {name.partition(".")[0] for name in imported(path)}
    assert not roots & {"openai", "httpx", "httpx2", "pydantic", "pydantic_settings", "socket", "urllib3", "asyncio"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_http_library_is_taken_from_the_sdk_and_never_imported_by_name(path: Path):
    assert not {name.partition(".")[0] for name in imported(path)} & {"httpx", "httpx2"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_drop_in_touches_the_internals_of_the_sdk(path: Path):
    inner = [name for name in imported(path) if name.startswith(("openai._", "openai.lib"))]
    assert not inner or room(path) == "dropin"


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has after that code."""
    script = f"{code}\nimport sys; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import allos", {"openai", "pydantic", "pydantic_settings", "click", "tenacity", "asyncio", "allos.messages"}),
        ("import allos.messages, allos.wire.chat, allos.wire.responses", {"openai", "pydantic", "allos.settings"}),
        ("import allos.endpoints", {"openai", "pydantic", "pydantic_settings", "allos.settings"}),
        ("import allos; allos.Message.user('hi')", {"openai", "pydantic"}),
        ("import allos.settings", {"openai"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(code: str, absent: set[str]):
    assert not loaded_by(code) & absent


def test_every_public_name_is_there_and_no_other_is_promised():
    for name in allos.__all__:
        assert getattr(allos, name) is not None
    assert len(set(allos.__all__)) == len(allos.__all__)
    assert set(allos._HOME) | {"chat", "__version__"} == set(allos.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = allos.Clint
    assert set(allos.__all__) <= set(dir(allos))
