"""The documentation can't drift: its examples run, its commands exist, its outputs are what the program says.

A page's Python blocks share one namespace, as if they were typed one after the other.
`# → text` behind a call of `print` is compared with what it prints, and so is a `text` block that follows at once.
`bash` blocks must succeed; in `console` blocks every `$ allos …` must say what stands below it; `…` stands for
anything.
The network is that of `standin`.
A block that can't run says so in the page, on the line before it: `<!-- not run: the reason -->`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import click
import pytest
import standin
from embedded import bring
from pages import PAGES, ROOT, Block, Command, blocks, commands, is_like

import allos
from allos import endpoints, settings, weights
from allos.cli import process
from allos.cli.app import app
from allos.endpoints import Endpoint
from allos.wire.dialect import Dialect, ResponsesDialect

DOCS = [page for page in PAGES if page.parent != ROOT]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
LANGUAGES = {"python", "bash", "console", "toml", "json", "text", "env"}
# Words that a shell line may begin with and that are not run here.
NOT_OURS = {"cat", "cd", "echo", "export", "git", "grep", "head", "jq", "pip", "rg", "source", "unset"}


def of(language: str) -> list[Block]:
    """The blocks of a language that are run."""
    return [block for page in PAGES for block in blocks(page) if block.language == language and not block.reason]


def named(values: list[Block] | list[Path]) -> dict[str, list[str]]:
    """What pytest calls these blocks or pages."""
    return {"ids": [value.name if isinstance(value, Block) else str(value.relative_to(ROOT)) for value in values]}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> standin.Network:
    """No network but our own, an empty folder to work in, and a screen of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("allos.dropin.route._learned", {})  # what an example teaches the process ends with it
    monkeypatch.setattr(endpoints, "_registered", {})
    endpoints._table.cache_clear()
    return standin.connect(monkeypatch, tmp_path / "weights.gguf")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for every service."""
    for row in endpoints.endpoints():
        for variable in row.key_variables[:1]:
            monkeypatch.setenv(variable, f"sk-{row.alias}-example")
    monkeypatch.setenv("EXAMPLE_API_KEY", "sk-example")


@pytest.mark.parametrize("page", PAGES, **named(PAGES))
def test_no_block_is_skipped_by_its_language(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(blocks(page)) * 2 == len(re.findall(r"^\s*```", text, re.MULTILINE))
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.name}: {block.language!r}"


@pytest.mark.usefixtures("network", "keys")
@pytest.mark.parametrize("page", PAGES, **named(PAGES))
def test_the_python_of_a_page_runs_and_prints_what_the_page_says(page: Path) -> None:
    module = ModuleType("page")
    for block in blocks(page):
        if block.language == "python" and not block.reason:
            run_python(block, module)


def run_python(block: Block, module: ModuleType) -> None:
    code = "\n" * (block.line - 1) + block.code  # so that a traceback names the line of the page
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, block.page, "exec"), module.__dict__)
    if expected := re.findall(r"#\s*→ (.*)$", block.code, re.MULTILINE):
        assert printed.getvalue().splitlines() == expected, block.name
    if block.output is not None:
        assert is_like(printed.getvalue(), block.output), f"{block.name}:\n{printed.getvalue()}"


@pytest.mark.usefixtures("network", "keys")
@pytest.mark.parametrize("block", of("bash"), **named(of("bash")))
def test_the_commands_of_a_page_succeed(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in commands(block.code):
        perform(command, block, monkeypatch)


def perform(command: Command, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what a command of a page says, as far as it is ours."""
    words = command.words
    if words[0] == "export":
        for assigned in words[1:]:
            monkeypatch.setenv(*assigned.split("=", 1))
    elif words[0] == "make":
        check_make(words)
    elif words[0] == "eval":
        for inner in commands(words[1].removeprefix("$(").removesuffix(")")):
            perform(inner, block, monkeypatch)
    elif words[:2] == ["python", "-c"]:
        exec(compile(words[2], block.name, "exec"), {})
    elif words[0] == "allos":
        status, said = run(command, monkeypatch)
        assert status == 0, f"{block.name}: {' '.join(words)}\n{said}"
    else:
        assert words[0] in NOT_OURS or "/" in words[0], f"{block.name}: {words}"


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words[1:]:
        if "=" not in target:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"make {target}"


def run(command: Command, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """The exit status of an `allos` command, and what it says on both its outputs."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with monkeypatch.context() as patch:
        for name, value in command.variables.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(command.stdin.encode()), encoding="utf-8"))
        patch.setattr(sys, "stdout", screen)
        patch.setattr(sys, "stderr", screen)
        try:
            status = process.call(command.words[1:])
        except SystemExit as ended:  # how click ends a completion
            status = int(ended.code or 0)
    return status, screen.buffer.getvalue().decode()  # type: ignore[attr-defined]  # a BytesIO


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("block", of("console"), **named(of("console")))
def test_a_page_shows_what_the_command_says(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    status = 0
    for line, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", block.code, re.MULTILINE):
        for command in commands(line):
            if command.words[0] == "export":
                monkeypatch.setenv(*command.words[1].split("=", 1))
            elif command.words[0] == "cat":  # the page shows a file, which is there from now on
                Path(command.words[1]).write_text(expected, encoding="utf-8")
            elif command.words == ["echo", "$?"]:
                assert expected == f"{status}\n", f"{block.name}: {line}"
            elif command.words[0] == "allos":
                status, said = run(command, monkeypatch)
                assert is_like(said, expected), f"{block.name}: {line}\n{said}"


@pytest.mark.live
def test_the_readme_runs_as_pasted_on_the_embedded_model(tmp_path: Path) -> None:
    bring(weights.DEFAULT)
    readme = blocks(ROOT / "README.md")
    script = "\n".join(block.code for block in readme if block.language == "python")
    shell = next(block.code for block in readme if "ALLOS_PROVIDER=" in block.code)
    command = next(block.code for block in readme if block.code.startswith("allos "))
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
    for line in ([sys.executable, "-c", script], ["/bin/sh", "-c", shell], ["/bin/sh", "-c", command]):
        done = subprocess.run(
            line, capture_output=True, text=True, cwd=tmp_path, timeout=300, env={**os.environ, "PATH": path}
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


@pytest.mark.parametrize("block", of("toml"), **named(of("toml")))
def test_a_table_is_one_that_allos_takes(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tomllib.loads(block.code)
    name = re.match(r"# .*?([\w.-]+\.toml)", block.code)
    assert name, f"{block.name}: its first line is a comment that names the file"
    if name[1] in ("config.toml", "endpoints.toml"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        file = tmp_path / "allos" / name[1]
    else:
        file = tmp_path / name[1]
    file.parent.mkdir(exist_ok=True)
    file.write_text(block.code, encoding="utf-8")
    settings.load(directory=tmp_path)


def test_json_is_json() -> None:
    for block in of("json"):
        json.loads(block.code)


@pytest.mark.parametrize("page", PAGES, **named(PAGES))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert {page.relative_to(ROOT / "docs").as_posix() for page in DOCS} == listed


def test_every_public_name_is_documented() -> None:
    assert [name for name in allos.__all__ if not re.search(rf"\b{name}\b", TEXT)] == []


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    def missing(command: click.Command, path: str) -> list[str]:
        found = [] if f"$ {path} --help\n" in page else [path]
        inner = command.commands if type(command) is click.Group else {}
        if command is app:
            inner = {name: app.get_command(click.Context(app), name) for name in app.list_commands(click.Context(app))}
        return found + [name for key, value in inner.items() for name in missing(value, f"{path} {key}")]

    assert missing(app, "allos") == []


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [name for name in settings.Settings.model_fields if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", DOCS, **named(DOCS))
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:allos|tests|tools|scripts|cassettes)/[\w./-]+)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (name.startswith("allos/") and importable(name)), f"{page.name}: {name}"


def importable(name: str) -> bool:
    """Whether a module is part of the installed package, where its sources are not beside the tests."""
    return (Path(allos.__file__).parent / name.removeprefix("allos/")).exists()


def test_the_generated_parts_are_what_the_tool_makes_whoever_runs_it(tmp_path: Path) -> None:
    (tmp_path / "allos").mkdir()
    (tmp_path / "allos" / "endpoints.toml").write_text('[mine]\nbase_url = "http://localhost:8080/v1"\n')
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "pages.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "80", "XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}Run `make pages`."


def test_every_key_of_a_row_and_every_quirk_stands_on_the_page_of_services() -> None:
    said = (ROOT / "docs" / "endpoints.md").read_text("utf-8").partition("### The keys of a row")[2]
    own, _, quirks = said.partition("<!-- made by")[0].partition("### The quirks")
    chat, _, native = quirks.partition("`[endpoints.NAME.quirks.responses]`")

    def named(text: str) -> set[str]:
        firsts = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
        return set(re.findall(r"`(\w+)`", " ".join(firsts)))

    keys = {field.name for field in fields(Endpoint)} - {"alias", "origin", "dialect"}
    assert named(own) == keys | {"quirks"}
    assert named(chat) == {field.name for field in fields(Dialect)}
    shared = set(re.findall(r"`(\w+)`", native.partition(", which mean")[0]))
    assert named(native) | shared == {field.name for field in fields(ResponsesDialect)}


def test_every_public_name_stands_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference.md").read_text("utf-8").partition("## What is met")[0]
    assert set(re.findall(r"^        - (\w+)$", page, re.MULTILINE)) == set(allos.__all__) - {"__version__"}
