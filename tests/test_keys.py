"""A key belongs to a host, and is shown nowhere: every alias of the table through every door."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import subprocess
import sys
import traceback
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import answers
import openai
import pytest
from all_doors import DOORS, command, through
from doors import http
from loopback import serving

import allos
from allos import endpoints, keys
from allos.adapters import NO_KEY

# All that the SDK takes from the environment, for any host.
AMBIENT = {
    "OPENAI_API_KEY": "sk-ambient-key-000",
    "OPENAI_ADMIN_KEY": "sk-ambient-admin-000",
    "OPENAI_ORG_ID": "org-ambient-000",
    "OPENAI_ORGANIZATION": "org-ambient-001",
    "OPENAI_PROJECT_ID": "proj-ambient-000",
    "OPENAI_WEBHOOK_SECRET": "whsec-ambient-000",
    "OPENAI_CUSTOM_HEADERS": "X-Ambient: custom-ambient-000\nAuthorization: Bearer custom-ambient-001",
    "OPENAI_API_BASE": "https://ambient.test/v1",
    "OPENAI_LOG": "",
}
OPENAIS_OWN = {"openai-organization", "openai-project", "x-ambient"}
PACKAGE = Path(allos.__file__).parent
ALIASES = [row for row in endpoints.endpoints() if not row.retired and (row.base_url or row.generic)]


def ambient(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set every key that there is: OpenAI's variables and those of all services; gives the services' by name."""
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    variables = {name for row in endpoints.endpoints() for name in row.key_variables} - AMBIENT.keys()
    secrets = {name: f"secret-of-{name.lower().replace('_', '-')}" for name in sorted(variables)}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    return secrets | {"OPENAI_API_KEY": AMBIENT["OPENAI_API_KEY"]}


@pytest.mark.fault("N5")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("row", ALIASES, ids=lambda row: row.alias)
def test_to_each_alias_goes_its_own_key_and_nothing_else(row, door, sockets, monkeypatch):
    secrets = ambient(monkeypatch)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/openai/v1")
    given = {"api_key": "given-for-this-one"} if row.needs_key and not row.key_variables else {}
    through(door, row.alias, **given)
    request = sockets.last
    assert row.serves(str(request.url))
    own = next((secrets[name] for name in row.key_variables), given.get("api_key"))
    is_openai = request.url.host == "api.openai.com"
    expected = "custom-ambient-001" if is_openai else own  # what OPENAI_CUSTOM_HEADERS says wins there, as in the SDK
    assert request.headers.get("authorization") == (None if expected is None else f"Bearer {expected}")
    sent = json.dumps([*request.headers.multi_items(), str(request.url)])
    for name, secret in secrets.items():
        assert secret == own or secret not in sent, f"{name} went to {request.url.host}"
    assert is_openai or "ambient" not in sent
    assert is_openai == (set(request.headers) >= OPENAIS_OWN)


@pytest.mark.parametrize("door", DOORS)
def test_openais_address_of_the_environment_takes_its_key_along_but_no_account(door, sockets, monkeypatch):
    secrets = ambient(monkeypatch)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.test/v1")
    through(door, "openai")
    assert sockets.last.url.host == "elsewhere.test"
    assert sockets.last.headers["authorization"] == f"Bearer {secrets['OPENAI_API_KEY']}"
    assert not OPENAIS_OWN & set(sockets.last.headers)


@pytest.mark.fault("N6")
@pytest.mark.parametrize("door", DOORS)
def test_openais_address_of_the_environment_is_not_that_of_an_alias(door, sockets, monkeypatch):
    ambient(monkeypatch)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.test/v1")
    through(door, "groq")
    assert sockets.last.url.host == "api.groq.com"


@pytest.mark.parametrize("door", DOORS)
def test_an_address_of_ones_own_gets_no_key_but_the_one_that_is_given_for_it(door, sockets, monkeypatch):
    ambient(monkeypatch)
    through(door, "chat_completions", base_url="https://own.test/v1")
    assert "authorization" not in sockets.last.headers
    through(door, "chat_completions", base_url="https://own.test/v1", api_key="given-for-this-one")
    assert sockets.last.headers["authorization"] == "Bearer given-for-this-one"
    assert "ambient" not in json.dumps(sockets.last.headers.multi_items())


def test_the_stand_in_for_no_key_is_never_sent(sockets):
    for door in DOORS:
        through(door, "vllm")
    assert len(sockets.requests) == len(DOORS)
    assert not [request for request in sockets.requests if NO_KEY in request.headers.get("authorization", "")]


# Redirects.


def redirecting(to: str) -> Any:
    def answer(request: Any) -> Any:
        if request.url.path == "/v1/chat/completions":
            return http.Response(307, headers={"location": to})
        return http.Response(200, json=answers.whole("chat", "Hello."))

    return answer


ELSEWHERE = ["https://elsewhere.test/v2/chat/completions", "http://own.test/v2/chat/completions", "//own.test:8443/v2"]


@pytest.mark.fault("C9")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("to", ELSEWHERE)
def test_a_redirect_to_another_origin_is_not_followed(door, to, sockets, monkeypatch):
    ambient(monkeypatch)
    sockets.answer = redirecting(to)
    said = failure(door, "chat_completions", base_url="https://own.test/v1", api_key="given-for-this-one")
    (request,) = sockets.requests
    assert request.url.host == "own.test"
    assert "307" in said
    assert "redirects" in said
    assert "given-for-this-one" not in said


@pytest.mark.parametrize("door", DOORS)
def test_openais_account_and_custom_headers_do_not_follow_a_redirect_to_another_host(
    door, sockets, monkeypatch, capsys
):
    ambient(monkeypatch)
    monkeypatch.setenv("ALLOS_WIRE", "chat")
    sockets.answer = redirecting("https://elsewhere.test/v2/chat/completions")
    failure(door, "openai")
    (request,) = sockets.requests
    assert request.url.host == "api.openai.com"
    assert set(request.headers) >= OPENAIS_OWN


@pytest.mark.parametrize("door", DOORS)
def test_a_redirect_without_an_end_is_given_up(door, sockets):
    sockets.answer = lambda request: http.Response(307, headers={"location": "/v1/chat/completions"})
    assert "307" in failure(door, "chat_completions", base_url="https://own.test/v1")
    assert len(sockets.requests) == 6


@pytest.mark.parametrize("door", DOORS)
def test_a_redirect_within_the_origin_is_followed_with_the_key(door, sockets):
    sockets.answer = redirecting("/v2/chat/completions")
    through(door, "chat_completions", base_url="https://own.test/v1", api_key="given-for-this-one")
    assert [request.url.path for request in sockets.requests] == ["/v1/chat/completions", "/v2/chat/completions"]
    assert sockets.last.headers["authorization"] == "Bearer given-for-this-one"


# What can't be sent is refused before anything is.

BAD_KEYS = {
    "an inner space": "sk-abc def-secret",
    "a line break": "sk-abc\ndef-secret",
    "a masked copy": "sk-•••secret",
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("what", BAD_KEYS)
def test_a_key_that_can_not_be_sent_is_refused_by_the_name_of_its_variable(door, what, sockets, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", BAD_KEYS[what])
    said = refusal(door, "groq")
    assert "GROQ_API_KEY" in said
    assert "secret" not in said
    assert not sockets.requests


@pytest.mark.parametrize("door", DOORS)
def test_a_key_with_white_space_and_a_byte_order_mark_around_it_is_cleaned(door, sockets, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "\ufeff  sk-clean-key \n")
    through(door, "groq")
    assert sockets.last.headers["authorization"] == "Bearer sk-clean-key"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "url", ["own.test/v1", "ftp://own.test/v1", "https://own.test:99999/v1", "https://own .test/v1", "https:///v1"]
)
def test_an_address_that_can_not_be_reached_is_refused_by_name(door, url, sockets):
    said = refusal(door, "chat_completions", base_url=url)
    assert "base" in said
    assert not sockets.requests


@pytest.mark.parametrize("door", DOORS)
def test_a_password_in_an_address_is_refused_and_not_shown(door, sockets):
    said = refusal(door, "chat_completions", base_url="https://me:pass-word-secret@own.test/v1")
    assert "secret" not in said
    assert not sockets.requests


def failure(door: str, provider: str, **given: Any) -> str:
    """What is said where the service is at fault."""
    if door == "command":
        done = command(provider, given)
        assert done.status == 6
        return done.notes
    with pytest.raises(openai.APIStatusError) as caught:
        through(door, provider, **given)
    return str(caught.value)


def refusal(door: str, provider: str, **given: Any) -> str:
    """What is said where a question through that door is refused."""
    if door == "command":
        done = command(provider, given)
        assert done.status in (2, 3)
        return done.notes
    with pytest.raises(allos.ConfigurationError) as caught:
        through(door, provider, **given)
    return str(caught.value)


# Where a key could be seen.

KEY = "unusual.key/of-no-known_form-0001"


class Unwilling(BaseHTTPRequestHandler):
    """Refuses every call, and says the key back wherever it can."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["authorization"].removeprefix("Bearer ")
        body = json.dumps({"error": {"message": f"wrong key: {key}", "code": "invalid_api_key"}}).encode()
        self.send_response(401, f"Not with {key}")
        self.send_header("content-type", "application/json")
        self.send_header("x-echo", key)
        self.send_header("set-cookie", f"session={key}")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


LOGGED = """
import asyncio, logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
import openai, allos

base_url, key = sys.argv[1], sys.argv[2]
given = {"base_url": base_url, "api_key": key, "max_retries": 1}
messages = [{"role": "user", "content": "Hi"}]
more = {"extra_headers": {"X-Api-Key": key, "Authorization": f"Bearer {key}"}}

async def main():
    async with allos.AsyncClient("chat_completions", "m", **given) as client:
        try:
            await client.chat("Hi")
        except openai.APIError as error:
            logging.getLogger("openai").exception("It failed with %s.", key)
    async with allos.AsyncOpenAI("chat_completions", **given) as client:
        try:
            await client.chat.completions.create(model="m", messages=messages, **more)
        except openai.APIError as error:
            print(error)

with allos.Client("chat_completions", "m", **given) as client:
    try:
        client.chat("Hi")
    except openai.APIError as error:
        print(error)
with allos.OpenAI("chat_completions", **given) as client:
    try:
        client.chat.completions.create(model="m", messages=messages, **more)
    except openai.APIError as error:
        print(error)
asyncio.run(main())
"""


def test_no_key_is_in_the_logs_at_debug_nor_in_what_they_are_told_of_an_error():
    with serving(Unwilling) as server:
        done = subprocess.run(
            [sys.executable, "-c", LOGGED, server.url, KEY], capture_output=True, text=True, timeout=60, check=True
        )
    names = {line.partition(" ")[0] for line in done.stdout.splitlines()}
    assert {"openai._base_client", "openai"} <= names
    assert {"httpx2", "httpcore2.http11"} <= names or {"httpx", "httpcore.http11"} <= names
    assert "set-cookie" in done.stdout.lower(), "the headers of the answer are logged"
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("door", DOORS)
def test_no_key_is_in_what_an_error_says_even_where_the_server_says_it(door, sockets):
    error = {"error": {"message": f"wrong key: {KEY}", "code": "invalid_api_key"}}
    sockets.answer = lambda request: http.Response(401, json=error)
    if door == "command":
        done = command("vllm", {"api_key": KEY})
        assert done.status == 3
        assert KEY not in done.text + done.notes
        return
    with pytest.raises(openai.AuthenticationError) as caught:
        through(door, "vllm", api_key=KEY)
    assert KEY not in "".join([str(caught.value), repr(caught.value), caught.value.message])


def ours(error: BaseException) -> str:
    """The traceback as a tool shows it that prints local variables, of the frames of Allos and of the SDK."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = []
    while shown is not None:
        frames += [
            frame for frame in shown.stack if Path(frame.filename).is_relative_to(PACKAGE) or "openai" in frame.filename
        ]
        shown = shown.__cause__ or shown.__context__
    assert frames
    return "".join(f"{frame.filename}:{frame.name} {frame.locals}\n" for frame in frames)


@pytest.mark.parametrize("door", DOORS[:4])
@pytest.mark.parametrize("fault", ["refused", "broken", "unreachable"])
def test_no_key_is_in_a_traceback_that_shows_local_variables(door, fault, sockets):
    def broken(request: Any) -> Any:
        raise http.ConnectError("no route to host", request=request)

    sockets.answer = {
        "refused": lambda request: http.Response(401, json={"error": {"message": "wrong key"}}),
        "broken": lambda request: http.Response(200, json={"choices": None}),
        "unreachable": broken,
    }[fault]
    with pytest.raises(openai.APIError) as caught:
        through(door, "vllm", api_key=KEY)
    assert KEY not in ours(caught.value)


def test_no_key_is_in_a_repr(sockets, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    clients = [
        allos.Client("vllm", "m"),
        allos.AsyncClient("vllm", "m"),
        allos.OpenAI("vllm"),
        allos.AsyncOpenAI("vllm"),
    ]
    for client in clients:
        assert KEY not in repr(client) + str(client)
    with clients[0] as client:
        assert KEY not in repr(vars(client)) + repr(client.target) + repr(vars(client.target))
        reply = client.chat("Hi")
        assert KEY not in repr(reply) + repr(reply.raw)
    with clients[2] as client:
        made = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert KEY not in repr(made) + repr(allos.receipt(made))
    asyncio.run(clients[3].close())


def test_a_pickled_client_takes_its_key_along_as_a_secret():
    client = allos.Client("vllm", "m", api_key=KEY)
    assert pickle.loads(pickle.dumps(client)).target.api_key.get_secret_value() == KEY


def test_a_key_is_masked_as_long_as_a_client_holds_it():
    secret = "a-word-of-no-form-at-all"
    client = allos.Client("vllm", "m", api_key=secret)
    assert keys.masked(f"It was {secret}.") == "It was ***."
    del client
    assert keys.masked(f"It was {secret}.") == f"It was {secret}."


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("Incorrect API key: sk-abcdefghijkl", "Incorrect API key: ***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("'authorization': 'Basic YWJj'", "'authorization': 'Basic ***'"),
        ("The key is wrong.", "The key is wrong."),
    ],
)
def test_what_has_the_form_of_a_key_is_masked_too(said, clean):
    assert keys.masked(said) == clean


EVERY_LOGGER = """
import logging, importlib, pathlib, warnings
import allos
allos.Client("vllm", "m")
warnings.simplefilter("ignore")
import openai
home = pathlib.Path(openai.__file__).parent
for path in home.rglob("*.py"):
    if b"getLogger" in path.read_bytes():
        importlib.import_module(".".join(("openai", *path.relative_to(home).with_suffix("").parts)))
for name, logger in logging.root.manager.loggerDict.items():
    if name.startswith(("openai", "http")) and isinstance(logger, logging.Logger) and not any(
        type(entry).__module__ == "allos.keys" for entry in logger.filters
    ):
        print(name)
"""


def test_no_logger_of_the_sdk_or_the_http_library_is_left_unwatched_also_if_it_is_made_later():
    done = subprocess.run([sys.executable, "-c", EVERY_LOGGER], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""


def test_a_logged_header_that_may_hold_a_credential_is_masked(caplog):
    allos.Client("vllm", "m")
    options = {"headers": {"Accept": "text/plain", "X-Anything": "abc"}, "json_data": {"model": "m"}}
    with caplog.at_level(logging.DEBUG, "openai"):
        logging.getLogger("openai").debug("Request options: %s", options)
        logging.getLogger("openai").debug("no arguments, and a %s")
    assert "abc" not in caplog.text
    assert "text/plain" in caplog.text
    assert options["headers"]["X-Anything"] == "abc", "what is sent stays as it was"
