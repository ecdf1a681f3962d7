"""What reaches standard output, on a terminal and elsewhere."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allos.cli import terminal

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs", "Cc", "Cf"]))


class Output(io.TextIOWrapper):
    def __init__(self, encoding: str, *, screen: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="")
        self.screen = screen

    def isatty(self) -> bool:
        return self.screen

    @property
    def bytes(self) -> bytes:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


def shown(pieces: list[str], encoding: str = "utf-8", *, screen: bool = False) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        out = Output(encoding, screen=screen)
        patch.setattr(sys, "stdout", out)
        answer = terminal.Answer()
        for piece in pieces:
            answer.write(piece)
        answer.end()
        return out.bytes


@given(st.lists(st.text()))
def test_text_passes_unchanged_and_ends_its_line(pieces: list[str]) -> None:
    whole = "".join(pieces)
    expected = whole if not whole or whole.endswith("\n") else whole + "\n"
    assert shown(pieces).decode() == expected


@given(st.lists(ANY_TEXT), st.sampled_from(["utf-8", "ascii", "latin-1", "cp1252"]), st.booleans())
def test_no_text_breaks_any_output(pieces: list[str], encoding: str, screen: bool) -> None:
    shown(pieces, encoding, screen=screen).decode(encoding)


@given(st.lists(ANY_TEXT))
def test_nothing_that_could_steer_a_terminal_reaches_one(pieces: list[str]) -> None:
    assert not UNSAFE.search(shown(pieces, screen=True).decode())


@given(ANY_TEXT, st.data())
def test_how_the_text_is_cut_does_not_matter(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for screen in (False, True):
        assert shown(pieces, screen=screen) == shown([text], screen=screen)


def test_control_characters_are_shown_as_escapes_on_a_terminal() -> None:
    text = "a\x1b[31mred\x00\x9b\u202e\ttab\r\nnext\rback"
    assert shown([text], screen=True).decode() == ("a\\u001b[31mred\\u0000\\u009b\\u202e\ttab\nnext\\u000dback\n")
    assert shown([text]).decode() == text + "\n"


def test_what_an_encoding_lacks_becomes_a_question_mark() -> None:
    assert shown(["né 你 \ud800!"], "latin-1") == "né ? ?!\n".encode("latin-1")
    assert shown(["né"], "ascii") == b"n?\n"


def test_a_character_cut_in_two_is_put_together() -> None:
    assert shown(["\ud83d", "\ude00"]).decode() == "😀\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
)


@given(JSON, st.sampled_from(["utf-8", "ascii", "latin-1"]), st.booleans())
def test_json_survives_any_output(data: object, encoding: str, screen: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        out = Output(encoding, screen=screen)
        patch.setattr(sys, "stdout", out)
        terminal.print_json(data)
    assert json.loads(out.bytes.decode(encoding)) == _joined(data)


def _joined(data: object) -> object:
    """The data as JSON itself reads it back: two halves of a character become one."""
    return json.loads(json.dumps(data))


def test_a_table_is_as_wide_as_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table([("A", "B"), ("long one", "x"), ("y", "")])
    assert capsys.readouterr().out == "A         B\nlong one  x\ny\n"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (17, "A         B    C\nlong one  two  x\ny              z\n"),
        (15, "A         B\n    C\nlong one  two\n    x\ny\n    z\n"),
        (3, "A\n    B    C\nlong one\n    two  x\ny\n         z\n"),
    ],
)
def test_a_table_wider_than_the_terminal_goes_on_below(
    monkeypatch: pytest.MonkeyPatch, columns: int, expected: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", out := Output("utf-8", screen=True))
    terminal.print_table([("A", "B", "C"), ("long one", "two", "x"), ("y", "", "z")])
    assert out.bytes.decode() == expected


@pytest.mark.parametrize("closed", [True, False])
def test_a_lost_standard_error_costs_nothing(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", None if closed else Broken())
    terminal.say("hello")
