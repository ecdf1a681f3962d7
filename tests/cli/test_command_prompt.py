"""What becomes the prompt: words, standard input, both or neither."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allos.cli.prompt import compose
from allos.cli.terminal import Failed


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes | None, *, terminal: bool = False) -> None:
    made = None if data is None else (Terminal if terminal else io.TextIOWrapper)(io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", made)


@pytest.mark.parametrize(
    ("words", "data", "expected"),
    [
        (["Sum", "up"], b"", "Sum up"),
        (["Sum up"], b"the text\n", "Sum up\n\nthe text"),
        ([], b"the text\r\n", "the text"),
        (["-"], b"the text", "the text"),
        (["Sum up", "-"], b"the text", "Sum up\n\nthe text"),
        ([""], b"the text", "the text"),
        (["Sum up"], b" \n", "Sum up"),
        (["Sum up"], b"\xef\xbb\xbfthe text", "Sum up\n\nthe text"),
        (["Sum up"], b"  indented\n\tand more\n\n", "Sum up\n\n  indented\n\tand more"),
        (["Sum up"], None, "Sum up"),
    ],
)
def test_standard_input_follows_the_words(
    monkeypatch: pytest.MonkeyPatch, words: list[str], data: bytes | None, expected: str
) -> None:
    stdin(monkeypatch, data)
    assert compose(words) == expected


def test_a_terminal_is_read_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"typed", terminal=True)
    assert compose(["hi"]) == "hi"
    assert compose([]) is None
    assert compose(["hi", "-"]) == "hi\n\ntyped"


@pytest.mark.fault("X12")
@pytest.mark.parametrize("words", [[], [""], ["  "], ["-"]])
def test_an_empty_prompt_is_refused(call: Callable[..., Any], words: list[str]) -> None:
    ran = call(*words, stdin=b"  \n")
    assert ran == (2, "", "Error: The prompt is empty. Give some words, or text on standard input.\n")


def test_no_prompt_at_a_terminal_shows_the_help(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allos.cli.prompt.compose", lambda words: None)
    ran = call()
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith("Usage: allos [OPTIONS] [PROMPT]...")


@pytest.mark.fault("X12")
@given(good=st.text(max_size=30), bad=st.sampled_from([b"\xff", b"\x80", b"\xc3("]), bom=st.booleans())
def test_input_that_is_not_utf8_is_refused_with_the_place(good: str, bad: bytes, bom: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        head = (b"\xef\xbb\xbf" if bom else b"") + good.encode()
        stdin(patch, head + bad)
        with pytest.raises(Failed, match=rf"byte 0x{bad[0]:02x} at offset {len(head)}\.") as caught:
            compose([])
    assert caught.value.status == 2


def test_words_that_are_not_utf8_are_refused(start: Callable[..., Any]) -> None:
    process = start(b"caf\xe9")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert err == b"Error: The prompt isn't UTF-8 text: see its character 4.\n"
