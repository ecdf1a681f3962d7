"""The pages of the documentation, taken apart into blocks of code, and the commands that stand in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?"
    r"^(?P<indent>[ ]*)(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    `reason` says why it is not run, where a marker before it says so; `output` is the block of text that follows it
    with nothing between.
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str | None
    output: str | None = None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        code = "".join(line[indent:] for line in match["code"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("code")) + 1
        if match["language"] == "text" and found and not text[end : match.start()].strip():
            found[-1] = replace(found[-1], output=code)
        found.append(Block(page, line, match["language"].strip(), code, match["reason"]))
        end = match.end()
    return found


def is_like(said: str, shown: str) -> bool:
    """Whether a program said what a page shows, in which `…` stands for anything."""
    pattern = ".*?".join(re.escape(piece) for piece in shown.rstrip().split("…"))
    return re.fullmatch(pattern, said.rstrip(), re.DOTALL) is not None


@dataclass
class Command:
    """One command of a shell line: its words, the variables set for it, and what is piped into it."""

    words: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    stdin: str = ""


def commands(code: str) -> Iterator[Command]:
    """The commands of a shell script of the simple kind that documentation has: pipes, `&&`, `>`, variables."""
    for line in code.replace("\\\n", " ").splitlines():
        before = ""
        for words, joint in _split(line):
            variables = {}
            while words and (assigned := re.fullmatch(r"([A-Z_]+)=(.*)", words[0], re.DOTALL)):
                variables[assigned[1]] = assigned[2]
                words = words[1:]
            yield Command(words, variables, before)
            before = f"{' '.join(words)}\n" if joint == "|" else ""


def _split(line: str) -> list[tuple[list[str], str]]:
    """The words of each command of a line and what joins it to the next; where output goes to is left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    found: list[tuple[list[str], str]] = []
    words: list[str] = []
    is_file = False
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            found.append((words, word))
            words = []
        elif not is_file and not set(word) <= set("<>"):
            words.append(word)
        is_file = set(word) <= set("<>")
    return [entry for entry in found if entry[0]]
