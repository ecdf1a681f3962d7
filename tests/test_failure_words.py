"""What an error says of a network that fails: the kind of failure, the address, the next step, and nothing twice."""

import errno
import socket

import openai
import pytest
from doors import http

from allos import settings
from allos.errors import as_options
from allos.failures import from_break, from_status, from_transport, is_missing_route, too_quiet
from allos.messages import Choice, Message, Reply

URL = "http://10.0.0.7:8080/v1/chat/completions"
REQUEST = http.Request("POST", URL)
RESPONSE = http.Response(200, request=REQUEST)
CAME = Reply((Choice(Message.assistant("Par")),))


@pytest.fixture
def target():
    return settings.resolve("chat_completions", base_url="http://10.0.0.7:8080/v1")


def failed(cause: Exception) -> openai.APIConnectionError:
    """The SDK's error over the HTTP library's over that of the system, as they come."""
    between = http.ConnectError(str(cause), request=REQUEST)
    between.__cause__ = cause
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = between
    return error


@pytest.mark.parametrize(
    ("provider", "base_url", "name"),
    [
        ("openai", "http://10.0.0.7:8080/v1", "The server"),
        ("openai", "https://api.openai.com/v1", "OpenAI"),
        ("groq", "https://proxy.example.com/v1", "The server"),
        ("vllm", "http://10.0.0.7:8080/v1", "vLLM server"),
    ],
)
def test_a_service_is_named_at_its_own_hosts_only(provider, base_url, name):
    target = settings.resolve(provider, base_url=base_url, api_key="sk-mine")
    assert from_transport(failed(OSError(errno.EIO, "odd")), target).message.startswith(f"{name} can't be reached")


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN])
def test_a_network_without_a_way_to_the_host_is_told_from_a_server_that_is_down(target, number):
    said = from_transport(failed(OSError(number, "no way")), target).message
    assert "the network has no way to it" in said
    assert URL in said
    assert "VPN" in said


def test_what_several_layers_say_alike_is_said_once(target):
    said = from_transport(failed(OSError(errno.EIO, "odd")), target).message
    assert said.count("odd") == 1
    assert "Connection error." not in said


def test_silence_in_mid_answer_is_told_from_no_answer_and_keeps_what_came(target):
    error = from_break(http.ReadTimeout("", request=REQUEST), target, CAME, RESPONSE)
    assert isinstance(error, openai.APITimeoutError)
    assert "fell silent in mid-answer" in str(error)
    assert "3 characters" in str(error)
    assert URL in str(error)
    assert error.reply.text == "Par"


def test_silence_before_the_first_word_is_no_answer_in_time(target):
    assert "in time" in str(from_break(http.ReadTimeout("", request=REQUEST), target, Reply(), RESPONSE))


def test_a_stream_of_comments_names_the_address_and_the_next_step(target):
    error = too_quiet(target, CAME, RESPONSE)
    assert URL in str(error)
    assert "timeout=" in str(error)
    assert error.reply.text == "Par"


def test_a_connection_that_breaks_in_mid_answer_names_the_address_and_what_came(target):
    error = from_break(http.RemoteProtocolError("peer closed", request=REQUEST), target, CAME, RESPONSE)
    assert "incomplete" in str(error)
    assert "3 characters" in str(error)
    assert URL in str(error)
    assert "it an HTTP server" not in str(error)  # it has just been one
    assert error.reply.text == "Par"


@pytest.mark.parametrize(("exempt", "is_told"), [("", True), ("10.0.0.7", False)])
def test_a_proxy_that_is_not_reached_is_named_without_its_password(target, monkeypatch, exempt, is_told):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://me:secret@proxy.test:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, exempt)
    for cause in (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), socket.gaierror(-2, "Name not known")):
        said = from_transport(failed(cause), target).message
        assert ("http://proxy.test:3128" in said) is is_told
        assert ("Check HTTPS_PROXY" in said) is is_told
        assert "secret" not in said


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (http.ConnectTimeout, ("can't be reached", "no connection in time", "firewall", "connect_timeout=")),
        (http.ReadTimeout, ("did not answer in time", "`timeout=`")),
        (http.PoolTimeout, ("No connection was free", "too many calls")),
    ],
)
def test_what_was_waited_for_in_vain_is_named(target, kind, words):
    error = openai.APITimeoutError(request=REQUEST)
    error.__cause__ = kind("", request=REQUEST)
    said = from_transport(error, target)
    assert isinstance(said, openai.APITimeoutError)
    assert URL in str(said)
    for word in words:
        assert word in str(said)


def test_an_argument_is_named_as_its_reader_writes_it(target):
    error = openai.APITimeoutError(request=REQUEST)
    assert "`timeout=`" in str(from_transport(error, target))
    with as_options():
        assert "`--timeout`" in str(from_transport(error, target))
        assert settings.load(model="m").origin("model") == "--model"
    assert settings.load(model="m").origin("model") == "the model argument"


def refused(status: int, message: str) -> openai.APIStatusError:
    body = {"error": {"message": message, "code": status}}
    return openai.InternalServerError("", response=http.Response(status, request=REQUEST, json=body), body=body)


@pytest.mark.parametrize(
    ("status", "message", "hint", "is_missing"),
    [
        (501, "This server does not support embeddings. Start it with `--embeddings`", "Use a model or a", False),
        (500, "image input is not supported - hint: you may need to provide the mmproj", "Use a model or a", False),
        (501, "This server does not support the Responses API", "Is the base URL", True),
        (501, "no", "Is the base URL", True),
        (500, "image worker died", "The service failed; try again later", False),
    ],
)
def test_what_a_service_says_it_lacks_is_no_failure_and_no_missing_api(target, status, message, hint, is_missing):
    error = refused(status, message)
    assert from_status(error, target).message.partition("\n")[2].startswith(hint)
    assert is_missing_route(error) == is_missing
