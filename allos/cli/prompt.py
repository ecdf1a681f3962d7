"""The prompt: the words of the command line, then what comes on standard input."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Sequence

from allos.cli.terminal import Failed

__all__ = ["compose"]


def compose(words: Sequence[str]) -> str | None:
    """Join words and standard input to one prompt, or give None where there is neither.

    Standard input is read when it is no terminal, or when one of the words is `-`.
    """
    said = " ".join(word for word in words if word != "-")
    try:
        said.encode()
    except UnicodeEncodeError as error:
        raise Failed(f"The prompt isn't UTF-8 text: see its character {error.start + 1}.", 2) from None
    wanted = "-" in words
    if sys.stdin is None or (sys.stdin.isatty() and not wanted):
        if not words:
            return None
        read = ""
    else:
        read = _read().rstrip("\r\n")
    prompt = "\n\n".join(part for part in (said, read) if part.strip())
    if not prompt:
        raise Failed("The prompt is empty. Give some words, or text on standard input.", 2)
    return prompt


def _read() -> str:
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise Failed(f"Standard input can't be read: {error.strerror or error}.", 2) from error
    text = data.removeprefix(codecs.BOM_UTF8)
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        offset = error.start + len(data) - len(text)
        raise Failed(
            f"Standard input isn't UTF-8 text: byte 0x{data[offset]:02x} at offset {offset}. "
            "Convert it first, for example with `iconv -t UTF-8`.",
            2,
        ) from None
