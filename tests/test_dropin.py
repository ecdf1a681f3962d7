"""The drop-in clients: where calls go, with which key, and what a copy keeps."""

import json

import answers
import openai
import pytest
from doors import http

import allos
from allos import local
from allos.dropin.route import _learned

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Paris.", "refusal": None},
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


class Server:
    """Answers every Chat call, knows no other path, and remembers what came."""

    def __init__(self, *, without: str = "/responses") -> None:
        self.requests: list[http.Request] = []
        self._without = without

    def __call__(self, request: http.Request) -> http.Response:
        self.requests.append(request)
        if request.url.path.endswith(self._without):
            return http.Response(404, text="404 page not found")
        return http.Response(200, json=CHAT)

    @property
    def last(self) -> http.Request:
        return self.requests[-1]

    @property
    def body(self) -> dict:
        return json.loads(self.last.content)

    def client(self, *args, **options) -> allos.OpenAI:
        return self.of(self, *args, **options)

    @staticmethod
    def of(answer, *args, **options) -> allos.OpenAI:
        """A client whose requests are answered by a function."""
        transport = http.Client(transport=http.MockTransport(answer))
        return allos.OpenAI(*args, http_client=transport, max_retries=0, **options)


@pytest.fixture
def server():
    _learned.clear()
    return Server()


def ask(client: openai.OpenAI, model: str = "m") -> str:
    return (
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])
        .choices[0]
        .message.content
    )


def test_with_nothing_set_it_is_the_official_client(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-canary")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-canary")
    client = server.client()
    assert isinstance(client, openai.OpenAI)
    assert ask(client) == "Paris."
    assert server.last.url == "https://api.openai.com/v1/chat/completions"
    assert server.last.headers["authorization"] == "Bearer sk-openai-canary"
    assert server.last.headers["openai-organization"] == "org-canary"


def test_without_a_key_it_complains_as_the_official_client_does():
    with pytest.raises(openai.OpenAIError, match="OPENAI_API_KEY"):
        allos.OpenAI()


def test_an_alias_sets_address_and_key(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-canary")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-groq")
    ask(server.client("groq"))
    assert server.last.url == "https://api.groq.com/openai/v1/chat/completions"
    assert server.last.headers["authorization"] == "Bearer gsk-groq"


def test_the_environment_switches_the_alias(server, monkeypatch):
    monkeypatch.setenv("ALLOS_PROVIDER", "groq")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-groq")
    monkeypatch.setenv("ALLOS_MODEL", "openai/gpt-oss-20b")
    ask(server.client(), "gpt-4o")
    assert server.last.url.host == "api.groq.com"
    assert server.body["model"] == "openai/gpt-oss-20b"


def test_a_named_env_file_switches_too(server, monkeypatch, tmp_path):
    file = tmp_path / "service.env"
    file.write_text("ALLOS_PROVIDER=groq\nGROQ_API_KEY=gsk-groq\nALLOS_STATE=state.db\nALLOS_ON_UNSUPPORTED=error\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLOS_ENV_FILE", str(file))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-canary")
    client = server.client()
    ask(client, "together/m")
    assert server.last.url.host == "api.groq.com"
    assert server.last.headers["authorization"] == "Bearer gsk-groq"
    assert server.body["model"] == "together/m", "the file fixes the place, as the environment does"
    assert (tmp_path / "state.db").exists()
    with pytest.raises(openai.BadRequestError, match="truncation"):
        client.responses.create(model="m", input="?", truncation="auto")


def test_a_named_env_file_without_a_place_leaves_the_official_client_where_it_is(server, monkeypatch, tmp_path):
    file = tmp_path / "service.env"
    file.write_text("ALLOS_FALLBACK=groq/m\nGROQ_API_KEY=gsk-groq\nOPENAI_BASE_URL=http://of-the-file.test/v1\n")
    monkeypatch.setenv("ALLOS_ENV_FILE", str(file))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-canary")
    client = server.client()
    ask(client)
    assert server.last.url.host == "api.openai.com"
    assert [place.endpoint.alias for place in client._route.target.fallback] == ["groq"]


def test_a_timeout_of_the_settings_leaves_the_one_for_a_connection_and_the_programs_own(monkeypatch):
    monkeypatch.setenv("ALLOS_TIMEOUT", "60")
    assert allos.OpenAI("groq", api_key="gsk-k").timeout == openai.Timeout(60, connect=5)
    assert allos.OpenAI("groq", api_key="gsk-k", timeout=7).timeout == 7


def test_the_retries_of_the_settings_hold_unless_the_program_says_another_number(monkeypatch):
    monkeypatch.setenv("ALLOS_MAX_RETRIES", "0")
    client = allos.OpenAI("groq", api_key="gsk-k")
    assert client.max_retries == client.with_options(timeout=5).max_retries == 0
    assert allos.OpenAI("groq", api_key="gsk-k", max_retries=1).with_options(timeout=5).max_retries == 1


@pytest.mark.parametrize("name", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "OPENAI_ADMIN_KEY"])
def test_what_belongs_to_openai_stays_away_from_other_hosts(server, monkeypatch, name):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv(name, "X-Custom: sk-canary" if name.endswith("HEADERS") else "sk-canary")
    for client in (server.client(base_url="http://elsewhere.test/v1"), server.client("ollama")):
        ask(client)
        assert "canary" not in str(server.last.headers.raw)
        ask(client.with_options(timeout=3))
        assert "canary" not in str(server.last.headers.raw)


def test_an_ambient_authorization_stays_away_from_other_hosts(server, monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-canary")
    ask(server.client(base_url="http://elsewhere.test/v1", api_key="sk-elsewhere"))
    assert server.last.headers.get_list("authorization") == ["Bearer sk-elsewhere"]
    ask(server.client("ollama"))
    assert "authorization" not in server.last.headers


def test_what_is_given_goes_where_it_is_told(server, monkeypatch):
    for variable in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(variable, "sk-canary")
    given = {"api_key": "sk-own", "admin_api_key": "sk-admin", "organization": "org-own", "project": "proj-own"}
    client = server.client(base_url="http://elsewhere.test/v1", **given)
    ask(client.with_options(timeout=3))
    ask(client)
    assert server.last.headers["authorization"] == "Bearer sk-own"
    assert server.last.headers["openai-organization"] == "org-own"
    assert server.last.headers["openai-project"] == "proj-own"
    assert client.admin_api_key == "sk-admin"


def test_a_key_function_and_headers_of_the_caller_stay(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    ask(server.client(base_url="http://elsewhere.test/v1", api_key=lambda: "sk-made"))
    assert server.last.headers["authorization"] == "Bearer sk-made"
    ask(server.client(base_url="http://elsewhere.test/v1", default_headers={"authorization": "Basic own"}))
    assert server.last.headers.get_list("authorization") == ["Basic own"]


def test_an_address_fixes_the_place_whatever_the_models_name_begins_with(server, monkeypatch):
    """Gateways such as LiteLLM name their models `groq/…` themselves."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk-groq")
    ask(server.client(base_url="http://gateway.test/v1", api_key="sk-own"), "groq/some-model")
    assert server.last.url.host == "gateway.test"
    assert server.body["model"] == "groq/some-model"


def test_a_key_given_for_the_address_is_sent_there(server):
    ask(server.client(base_url="http://elsewhere.test/v1", api_key="k1"))
    assert server.last.headers["authorization"] == "Bearer k1"


def test_a_copy_keeps_alias_key_and_wire(server, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "gsk-groq")
    client = server.client("groq", wire="chat").with_options(timeout=7).copy(max_retries=0)
    client.responses.create(model="m", input="?")
    assert server.last.url == "https://api.groq.com/openai/v1/chat/completions"
    assert server.last.headers["authorization"] == "Bearer gsk-groq"


def test_a_copy_may_go_elsewhere(server, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "gsk-groq")
    monkeypatch.setenv("TOGETHER_API_KEY", "together")
    ask(server.client("groq").with_options(provider="together"))
    assert server.last.url.host == "api.together.ai"
    assert server.last.headers["authorization"] == "Bearer together"


def test_a_model_with_an_alias_in_front_goes_to_that_endpoint(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-groq")
    ask(server.client(), "groq/openai/gpt-oss-20b")
    assert server.last.url.host == "api.groq.com"
    assert server.body["model"] == "openai/gpt-oss-20b"
    assert "canary" not in str(server.last.headers.raw)


def test_a_fixed_provider_takes_the_models_name_as_it_is(server, monkeypatch):
    monkeypatch.setenv("OPENROUTER_API_KEY", "k")
    ask(server.client("openrouter"), "mistral/mistral-small")
    assert server.last.url.host == "openrouter.ai"
    assert server.body["model"] == "mistral/mistral-small"


def test_an_unknown_host_is_tried_natively_once(server):
    client = server.client(base_url="http://elsewhere.test/v1", api_key="k")
    with pytest.warns(allos.UnsupportedWarning, match="no Responses API"):
        assert client.responses.create(model="m", input="?").output_text == "Paris."
    assert [request.url.path for request in server.requests] == ["/v1/responses", "/v1/chat/completions"]
    client.responses.create(model="m", input="?")
    assert [request.url.path for request in server.requests][2:] == ["/v1/chat/completions"]


def test_the_warning_points_at_the_line_of_the_program(server):
    client = server.client(base_url="http://elsewhere.test/v1", api_key="k")
    with pytest.warns(allos.UnsupportedWarning) as caught:
        client.responses.create(model="m", input="?")
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b""), (404, b'{"detail":"Not Found"}'), (405, b"Method Not Allowed"), (501, b"no"), (404, b"<html></html>")],
)
def test_an_unknown_host_without_chat_is_spoken_to_over_responses(status, body):
    _learned.clear()
    asked = []

    def answer(request):
        asked.append(request.url.path)
        if request.url.path.endswith("/chat/completions"):
            return http.Response(status, content=body)
        return http.Response(200, json=answers.whole("responses", "Paris."))

    client = Server.of(answer, base_url="http://elsewhere.test/v1", api_key="k")
    with pytest.warns(allos.UnsupportedWarning, match="no Chat Completions API .* wire='responses'"):
        assert ask(client) == "Paris."
    assert ask(client.copy()) == "Paris."
    assert asked == ["/v1/chat/completions", "/v1/responses", "/v1/responses"]


def test_the_embedded_model_is_spoken_to_over_the_api_that_does_all_of_both(server, monkeypatch, tmp_path):
    running = local.LocalServer("http://localhost:9000/v1", "k", "m", tmp_path)
    monkeypatch.setattr(local, "start", lambda model: running)
    client = server.client("local")
    first = client.responses.create(model="m", input="?")
    then = client.responses.create(model="m", input="And?", previous_response_id=first.id)
    assert [request.url.path for request in server.requests] == ["/v1/chat/completions"] * 2
    assert [entry["content"] for entry in server.body["messages"]] == ["?", "Paris.", "And?"]
    assert allos.receipt(then).spoken == "chat"


def test_a_missing_model_is_no_missing_route():
    _learned.clear()
    error = {"error": {"message": "The model 'm' does not exist", "code": "model_not_found"}}
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return http.Response(404, json=error)

    client = Server.of(answer, base_url="http://elsewhere.test/v1", api_key="k")
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.responses.create(model="m", input="?")
    assert asked == ["/v1/responses"]


def test_a_wrong_address_teaches_nothing():
    """Both APIs are missing there: the error is about the path that the program asked for."""
    _learned.clear()
    client = Server.of(lambda request: http.Response(404, text="404 page not found"), base_url="http://elsewhere.test",
                       api_key="k")  # fmt: skip
    with pytest.raises(openai.NotFoundError, match=r"(?s)elsewhere.test/responses.*Is the base URL right") as caught:
        client.responses.create(model="m", input="?")
    assert str(caught.value.request.url).endswith("/responses")
    assert _learned == {}


def test_an_unknown_host_may_lack_the_route_of_a_stream():
    _learned.clear()

    def answer(request):
        if request.url.path.endswith("/responses"):
            return http.Response(404, text="404 page not found")
        return answers.answer(request, "Par", "is.")

    client = Server.of(answer, base_url="http://elsewhere.test/v1", api_key="k")
    with pytest.warns(allos.UnsupportedWarning, match="no Responses API"):
        stream = client.responses.create(model="m", input="?", stream=True)
    *_, last = stream
    assert last.response.output_text == "Paris."
    assert allos.receipt(stream).spoken == "chat"


def test_other_resources_pass_through_untouched(server):
    client = server.client("chat_completions", base_url="http://elsewhere.test/v1", api_key="k")
    client.get("/models", cast_to=http.Response)
    assert server.last.url == "http://elsewhere.test/v1/models"


def test_a_resource_that_is_not_there_is_no_matter_of_the_address(server):
    client = Server.of(lambda request: http.Response(404, text="404 page not found"), "ollama")
    with pytest.raises(openai.NotFoundError, match="Does the service have this part of the API") as caught:
        client.images.generate(model="m", prompt="?")
    assert "wire=" not in str(caught.value)


def test_a_receipt_says_what_was_done(server):
    client = server.client(
        "chat_completions", base_url="http://elsewhere.test/v1", api_key="k", on_unsupported="ignore"
    )
    response = client.responses.create(model="m", input="?", truncation="auto")
    receipt = allos.receipt(response)
    assert receipt is not None
    assert (receipt.asked, receipt.spoken, receipt.base_url) == ("responses", "chat", "http://elsewhere.test/v1")
    assert [(note.action, note.what) for note in receipt.notes] == [("left out", "truncation")]
    raw = client.responses.with_raw_response.create(model="m", input="?")
    assert allos.receipt(raw) is not receipt
    assert allos.receipt(raw).spoken == "chat"


def test_what_is_left_out_is_warned_of_or_refused(server):
    options = {"base_url": "http://elsewhere.test/v1", "api_key": "k"}
    with pytest.warns(allos.UnsupportedWarning, match="truncation"):
        server.client("chat_completions", **options).responses.create(model="m", input="?", truncation="auto")
    strict = server.client("chat_completions", on_unsupported="error", **options)
    with pytest.raises(openai.BadRequestError, match="truncation") as caught:
        strict.responses.create(model="m", input="?", truncation="auto")
    assert caught.value.param == "truncation"


@pytest.mark.parametrize("door", ["client", "drop-in"])
def test_what_a_service_ignores_is_told_in_words_that_hold_where_nothing_was_sent_too(server, mock_client, door):
    at = {"base_url": "http://elsewhere.test/v1", "api_key": "k"}
    said, messages = {"metadata": {"a": "b"}}, [{"role": "user", "content": "?"}]

    def ask(on_unsupported):
        if door == "client":
            return mock_client(server, provider="llamacpp", on_unsupported=on_unsupported).chat("?", **said)
        client = server.client("llamacpp", on_unsupported=on_unsupported, **at)
        return client.chat.completions.create(model="m", messages=messages, **said)

    with pytest.warns(allos.UnsupportedWarning, match="metadata has no effect: this service ignores it$"):
        ask("warn")
    assert server.body["metadata"] == {"a": "b"}
    with pytest.raises((allos.Unsupported, openai.BadRequestError), match="metadata has no effect: this service"):
        ask("error")
    assert len(server.requests) == 1


def test_the_name_of_a_tool_that_is_not_there_is_refused_only_where_it_can_not_be_said(server):
    at = {"base_url": "http://elsewhere.test/v1", "api_key": "k"}
    nope = {"type": "function", "function": {"name": "nope"}}
    tools = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object", "properties": {}}}}]
    asked = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": tools, "tool_choice": nope}
    with pytest.raises(openai.BadRequestError, match="names 'nope', but the tools are 'go'") as caught:
        server.client("llamacpp", **at).chat.completions.create(**asked)
    assert (caught.value.param, server.requests) == ("tool_choice", [])
    server.client("chat_completions", **at).chat.completions.create(**asked)
    assert server.body["tool_choice"] == nope


def test_what_cannot_be_said_is_refused_as_a_server_would(server):
    client = server.client("chat_completions", base_url="http://elsewhere.test/v1", api_key="k")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="?", tools=[{"type": "web_search"}])
    assert caught.value.status_code == 400
    assert server.requests == []


@pytest.mark.parametrize("place", ["environment", "file"])
def test_policy_and_state_may_come_from_the_settings(server, monkeypatch, tmp_path, place):
    if place == "environment":
        monkeypatch.setenv("ALLOS_ON_UNSUPPORTED", "error")
        monkeypatch.setenv("ALLOS_STATE", str(tmp_path / "state.db"))
    else:
        (tmp_path / "allos").mkdir()
        said = f'on_unsupported = "error"\nstate = {json.dumps(str(tmp_path / "state.db"))}\n'
        (tmp_path / "allos" / "config.toml").write_text(said)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    client = server.client("chat_completions", base_url="http://elsewhere.test/v1", api_key="k")
    with pytest.raises(openai.BadRequestError, match="truncation"):
        client.with_options(timeout=3).responses.create(model="m", input="?", truncation="auto")
    client.responses.create(model="m", input="?")
    assert (tmp_path / "state.db").exists()


def test_a_bad_policy_is_refused_by_name(server):
    with pytest.raises(allos.ConfigurationError, match="on_unsupported='shout'"):
        server.client("ollama", on_unsupported="shout")


def test_an_unknown_alias_is_refused_with_the_near_miss():
    with pytest.raises(allos.ConfigurationError, match="Did you mean 'groq'"):
        allos.OpenAI("groqq")


def test_no_repr_shows_the_key(server):
    client = server.client("chat_completions", base_url="http://elsewhere.test/v1", api_key="sk-canary-1")
    assert "canary" not in repr(client) + repr(client._route) + repr(client.__dict__.get("_route"))


def test_it_may_stand_in_the_place_of_the_official_class(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs and tracing tools put their own class into `openai.OpenAI`."""
    monkeypatch.setattr(openai, "OpenAI", allos.OpenAI)
    client = server.client("groq", api_key="gsk-mock-key")
    assert client.chat.completions.create(model="m", messages=[]).choices[0].message.content == "Paris."


def test_no_admin_key_of_the_environment_is_taken_for_another_host(server, monkeypatch):
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-canary")
    client = server.client(base_url="http://elsewhere.test/v1", api_key="sk-own")
    assert client.admin_api_key is None
    assert client.with_options(timeout=3).admin_api_key is None


def test_a_provider_of_the_sdk_may_be_taken_off_again(monkeypatch):
    from openai.providers import bedrock

    client = allos.OpenAI(bedrock(region="us-east-1", api_key="aws-key"))
    assert client.with_options(provider=None, api_key="sk-own").base_url.host == "api.openai.com"


def test_what_openai_itself_answers_is_not_touched(monkeypatch):
    """A field that our model does not know, or that is odd, reaches the program as it came."""
    body = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m"}
    body |= {"output": [{"type": "message", "role": "assistant", "phase": "final", "content": None}], "novel": [1]}
    transport = http.Client(transport=http.MockTransport(lambda request: http.Response(200, json=body)))
    client = allos.OpenAI(api_key="sk-own", http_client=transport)
    assert client.responses.with_raw_response.create(model="m", input="hi").http_response.json() == body


@pytest.mark.parametrize(
    "body", ['[{"id": "m-1"}]', ' [{"id": "m-1"}] ', '{"object": "list", "data": [{"id": "m-1"}]}']
)
def test_models_are_listed_where_a_service_sends_the_bare_list(body):
    server = http.MockTransport(lambda request: http.Response(200, text=body))
    client = allos.OpenAI("together", api_key="k", http_client=openai.DefaultHttpxClient(transport=server))
    assert [model.id for model in client.models.list()] == ["m-1"]


def test_a_regular_answer_is_the_servers_own_response(server):
    """Nothing of it is built anew, so that what a program reads of headers and length is what the server sent."""
    client = server.client("chat_completions", base_url="http://elsewhere.test/v1", api_key="k")
    raw = client.chat.completions.with_raw_response.create(model="m", messages=[])
    assert int(raw.headers["content-length"]) == len(raw.content)
    assert raw.http_response.json() == CHAT
    assert allos.receipt(raw).notes == []


def test_a_stream_that_stops_before_all_answers_came_was_cut():
    said = answers.stream("chat", "Par", "is")[:-2]
    transport = http.MockTransport(lambda request: answers.events(said))
    made = {"base_url": "http://mock.test/v1", "api_key": "k", "http_client": http.Client(transport=transport)}
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2, "stream": True}
    with allos.OpenAI("chat_completions", **made) as client:
        with pytest.raises(allos.IncompleteReplyError, match="1 of 2"):
            list(client.chat.completions.create(**asked))
        said.append("data: [DONE]")  # a server that ignores `n` may end with one answer
        assert list(client.chat.completions.create(**asked))
