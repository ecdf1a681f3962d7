"""How long the command waits, and what it shows meanwhile."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import PATH, Canned, Server, as_json, chat_reply

from allos.cli import terminal
from allos.cli.service import PATIENCE, connect

Run = Callable[..., Any]
BUSY = {"error": {"message": "slow down"}}


class Screen(io.TextIOWrapper):
    """A standard error that is a terminal; `lines` are what stood in its last line, one after the other."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="")

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        assert isinstance(self.buffer, io.BytesIO)
        return [line.rstrip() for line in self.buffer.getvalue().decode().split("\r")[1:]]


def screen_for(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal from now on: pytest puts back its own standard error before a test begins."""
    made = Screen()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.delenv("TERM", raising=False)
    return made


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


class Busy(Server):
    """Answers so many requests with 429 and a wait before it says Paris."""

    def __init__(self, times: int, wait: str) -> None:
        super().__init__()
        self.times, self.wait = times, wait

    def send(self, handler: Any, answer: Canned) -> None:
        self.times -= 1
        busy = as_json(BUSY, 429, Retry_After=self.wait)
        super().send(handler, chat_reply("Paris.") if self.times < 0 else busy)


@pytest.fixture
def asking(call: Run) -> Run:
    def ask(url: str, *more: str, **options: Any) -> Any:
        return call("-p", "chat_completions", "--base-url", url, "-m", "tiny", "hi", *more, **options)

    return ask


def test_a_wait_counts_down_on_a_terminal_and_leaves_nothing(
    asking: Run, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = screen_for(monkeypatch)
    server = Busy(1, "2.5")
    ran = asking(server.url)
    server.close()
    assert (ran.status, ran.out) == (0, "Paris.\n")
    shown = [f"Trying again in {left} s: The server answered 429 at" for left in (3, 2, 1)]
    assert [line[: len(shown[0])] for line in screen.lines] == [*shown, "", ""]
    assert slept == [0.5, 1.0, 1.0]


def test_a_countdown_is_wiped_by_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_for(monkeypatch)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        terminal.count_down(9, lambda left: f"{left} s")
    assert screen.lines == ["9 s", "", ""]


def test_a_countdown_fits_into_one_line_and_steers_nothing(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = screen_for(monkeypatch)
    terminal.count_down(1, lambda left: f"{left} s \x1b[2J{'x' * 200}")
    assert len(screen.lines[0]) == 77
    assert screen.lines[0].startswith("1 s \\u001b[2J")


def test_elsewhere_a_wait_is_said_once(asking: Run, slept: list[float]) -> None:
    server = Busy(1, "5")
    ran = asking(server.url)
    server.close()
    assert (ran.status, ran.out) == (0, "Paris.\n")
    assert ran.err.startswith("Trying again in 5 s: The server answered 429")
    assert ran.err.count("\n") == 1
    assert slept == [5.0]


def test_a_short_wait_is_told_only_to_who_wants_all(asking: Run, slept: list[float]) -> None:
    for more, told in (((), 0), (("-v",), 1)):
        server = Busy(1, "1")
        assert asking(server.url, *more).err.count("Trying again") == told
        server.close()


def test_a_deadline_ends_the_command(asking: Run, server: Server) -> None:
    server.answers[PATH] = Canned([b""], type="text/event-stream", hold=True)
    ran = asking(server.url, "--deadline", "0.3")
    assert (ran.status, ran.out) == (5, "")
    assert ran.err.startswith("Error: The server had not answered when the 0.3 s for the whole call were over, at")
    assert "--deadline" in ran.err


def test_a_deadline_holds_for_the_list_of_models_and_the_answer_together(call: Run, server: Server) -> None:
    server.answers["/v1/models"] = Canned([b""], hold=True)
    ran = call("-p", "chat_completions", "--base-url", server.url, "hi", ALLOS_DEADLINE="0.3")
    assert ran.status == 5
    assert [path for path, _, _ in server.requests] == ["/v1/models"]
    assert "the 0.3 s for the whole call" in ran.err


def test_a_wait_that_would_pass_the_deadline_is_not_begun(asking: Run, slept: list[float]) -> None:
    server = Busy(1, "60")
    ran = asking(server.url, "--deadline", "30")
    server.close()
    assert (ran.status, slept) == (4, [])
    assert "Not tried again: a wait of 60.0 s would pass the deadline" in ran.err


@pytest.mark.parametrize(
    ("provider", "url", "streamed", "expected"),
    [
        ("groq", None, True, PATIENCE),
        ("groq", None, False, None),
        ("ollama", None, True, None),
        ("chat_completions", "http://192.168.0.7:8080/v1", True, None),
    ],
)
def test_a_service_on_the_net_is_given_up_sooner_than_a_server_of_ones_own(
    provider: str, url: str | None, streamed: bool, expected: float | None
) -> None:
    flags = {"provider": provider, "base_url": url, "api_key": "a-key", "model": "m"}
    with connect(flags, streamed=streamed) as client:
        assert client.target.timeout == expected
    with connect({**flags, "timeout": 7.0}, streamed=streamed) as client:
        assert client.target.timeout == 7.0


def test_a_server_that_is_not_reached_is_not_asked_for_its_models_first(call: Run, slept: list[float]) -> None:
    ran = call("-p", "chat_completions", "--base-url", "http://127.0.0.1:9/v1", "hi", "-v")
    assert ran.status == 5
    assert ran.err.count("Trying again") == 2


def test_where_the_list_of_models_is_not_reached_another_place_answers_at_once(
    call: Run, server: Server, slept: list[float]
) -> None:
    server.answers[PATH] = chat_reply("Paris.")
    places = ["--base-url", "http://127.0.0.1:9/v1", "--fallback", "ollama/tiny"]
    ran = call(*places, "--no-stream", "hi", OLLAMA_HOST=server.root)
    assert (ran.status, ran.out, sum(slept)) == (0, "Paris.\n", 0)
    assert "ollama/tiny answered instead: The server" in ran.err
    assert [body["model"] for _, _, body in server.requests] == ["tiny"]
