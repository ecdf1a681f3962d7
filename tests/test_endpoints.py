"""The table: every known service, the user's own rows over it, and what is said of a row that can't be."""

from __future__ import annotations

import re

import answers
import pytest

import allos
from allos import endpoints
from allos.endpoints import Endpoint, clean_base_url, clean_key, table


@pytest.fixture
def config(tmp_path, monkeypatch):
    """`config(name, text)` writes a file into the user's own folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(endpoints, "_registered", {})
    endpoints._table.cache_clear()

    def write(name, text):
        path = tmp_path / "config" / "allos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        endpoints._table.cache_clear()
        return path

    yield write
    endpoints._table.cache_clear()


# The rows that come with Allos


@pytest.mark.parametrize("row", endpoints.endpoints(), ids=lambda row: row.alias)
def test_a_row_says_where_it_is_and_which_api_it_speaks(row: Endpoint):
    assert row.title
    assert row.chat or row.responses
    assert row.prefers == "chat" or row.responses
    assert row.base_url or row.alias == "local"
    if row.default_model and not row.local:
        assert re.fullmatch(r"20\d\d-\d\d", row.models_as_of or "")
    for variable in (*row.key_variables, *row.base_url_variables):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", variable)
    if row.needs_key and not row.local:
        assert row.key_variables
    if row.base_url and "{" not in row.base_url:
        assert clean_base_url(row.base_url, row.alias) == row.base_url.rstrip("/")


def test_no_name_means_two_services():
    seen = {}
    for row in endpoints.endpoints():
        for name in {row.alias, *row.other_names}:
            folded = name.lower().replace("_", "-")
            assert seen.setdefault(folded, row.alias) == row.alias, f"{name} is {seen[folded]} and {row.alias}"


def test_the_table_holds_no_draft():
    text = endpoints.BUILT_IN.read_text(encoding="utf-8")
    assert not re.search(r"\b(draft|todo|fixme|xxx)\b", text, re.IGNORECASE)


@pytest.mark.parametrize("name", ["groq", "GROQ", "Groq", " groq "])
def test_a_name_is_found_in_any_case(name):
    assert endpoints.find(name).alias == "groq"


@pytest.mark.parametrize(
    ("name", "near"),
    [("grog", "groq"), ("opanai", "openai"), ("mistrl", "mistral"), ("groq/", "groq"), ("grog/llama", "groq")],
)
def test_a_near_miss_is_suggested(name, near):
    with pytest.raises(allos.ConfigurationError, match=f"'{name}'. Did you mean '{near}'"):
        endpoints.find(name)


def test_a_model_where_a_provider_belongs_is_told_its_place():
    with pytest.raises(allos.ConfigurationError, match=r"'groq/llama' is a provider and its model\. Pass it as model="):
        endpoints.find("groq/llama")


def test_an_unknown_name_without_a_near_one_says_where_to_look():
    with pytest.raises(allos.ConfigurationError, match="`allos providers`") as caught:
        endpoints.find("qqqqqqqq")
    assert "Did you mean" not in str(caught.value)


def test_an_address_where_a_name_belongs_is_told_its_place():
    with pytest.raises(allos.ConfigurationError, match="base_url="):
        endpoints.find("http://localhost:8080/v1")


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "a-very-long-name-of-a-service"])
def test_a_long_name_that_is_no_key_is_shown(name):
    with pytest.raises(allos.ConfigurationError, match=f"Unknown provider {name!r}"):
        endpoints.find(name)


@pytest.mark.parametrize("key", ["sk-proj-Ab0dEf1hIj2lMn3p", "0123456789abcdef0123456789abcdef"])
def test_a_key_where_a_name_belongs_is_told_its_place_and_not_shown(key):
    with pytest.raises(allos.ConfigurationError, match="api_key=") as caught:
        allos.Client(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "alias", "rest"),
    [
        ("groq/llama-3", "groq", "llama-3"),
        ("groq/openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"),
        ("nobody/llama-3", None, "nobody/llama-3"),
        ("llama-3", None, "llama-3"),
        ("groq/", None, "groq/"),
        ("chat/llama-3", None, "chat/llama-3"),  # the generic server is no address to go to
    ],
)
def test_an_alias_before_a_slash_is_the_provider(model, alias, rest):
    row, name = endpoints.split_model(model)
    assert (row.alias if row else None, name) == (alias, rest)


@pytest.mark.parametrize(
    ("url", "alias"),
    [
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://API.GROQ.COM/anything", "groq"),
        ("https://my-company.openai.azure.com/openai/v1", "azure"),
        ("https://api.groq.com.evil.test/openai/v1", None),
        ("http://api.groq.com/openai/v1", None),
        ("https://api.groq.com:8443/openai/v1", None),
        ("http://localhost:8080/v1", None),  # llama.cpp, LocalAI and others all listen there
    ],
)
def test_a_service_is_known_by_its_own_origin_and_no_other(url, alias):
    row = endpoints.for_base_url(url)
    assert (row.alias if row else None) == alias


# The user's own rows


def test_five_lines_make_a_working_alias(config, mock_client, monkeypatch):
    config(
        "config.toml",
        """[endpoints.mine]
title = "My server"
base_url = "https://llm.example.com/v1"
key_variables = ["MINE_API_KEY"]
default_model = "my-model"
""",
    )
    monkeypatch.setenv("MINE_API_KEY", "sk-mock-mine")

    def server(request):
        assert str(request.url) == "https://llm.example.com/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer sk-mock-mine"
        assert answers.body(request)["model"] == "my-model"
        return answers.answer(request, "hi")

    with mock_client(server, provider="mine", model=None, base_url=None, api_key=None) as client:
        assert client.chat("hi").text == "hi"


def test_a_row_of_the_user_is_laid_over_a_known_one_key_by_key(config):
    before = endpoints.find("groq")
    path = config("endpoints.toml", '[groq]\ndefault_model = "other"\n[groq.quirks]\nthink_tags = true\n')
    config("config.toml", '[endpoints.groq.models]\nbig = "llama-big"\n')
    row = endpoints.find("groq")
    assert (row.default_model, row.models, row.dialect.think_tags) == ("other", {"big": "llama-big"}, True)
    assert (row.base_url, row.key_variables, row.title) == (before.base_url, before.key_variables, before.title)
    assert row.origin in (str(path), str(path.with_name("config.toml")))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[mine]\nbase_url = "https://x.test/v1"\nkey_variable = ["A"]\n', 3, "key_variable is not a known key"),
        ("[mine]\n\nbase_url = 3\n", 3, "must be a text, not 3"),
        ('[mine]\nprefers = "grpc"\n', 2, "must be 'chat' or 'responses', not 'grpc'"),
        ('[mine]\nkey_variables = "A"\n', 2, "must be a list of texts"),
        ('[mine]\nneeds_key = "yes"\n', 2, "must be true or false"),
        ('[mine]\nbase_url = "x.test/v1"\n', 2, "has no scheme"),
        ("[mine]\n[mine.quirks]\nthink_tag = true\n", 3, "think_tag is not a known key"),
        ('mine = "https://x.test"\n', None, "must be a table"),
    ],
)
def test_a_row_that_can_not_be_is_named_with_file_and_line(config, text, line, words):
    path = config("endpoints.toml", text)
    with pytest.raises(allos.ConfigurationError) as caught:
        table()
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert line is None or f"line {line}" in str(caught.value)


@pytest.mark.parametrize("alias", ["gorq", "Groq"])
def test_a_new_row_without_an_address_is_not_taken_for_the_embedded_model(config, alias):
    path = config("endpoints.toml", f'[{alias}.models]\nfast = "llama"\n')
    with pytest.raises(allos.ConfigurationError) as caught:
        allos.Client(alias)
    said = f"{path}: {alias!r} is a new endpoint and has no base_url: where is it? Did you mean 'groq'?"
    assert str(caught.value) == said


def test_a_row_may_leave_its_address_to_the_environment(config, monkeypatch):
    config("endpoints.toml", '[mine]\nbase_url_variables = ["MINE_URL"]\ndefault_model = "one"\n')
    with pytest.raises(allos.ConfigurationError, match=r"The address of 'mine' is your own\. Set MINE_URL to it"):
        allos.Client("mine")
    monkeypatch.setenv("MINE_URL", "http://mine.test/v1")
    target = allos.Client("mine").target
    notes: list[allos.Note] = []
    assert (target.base_url, target.named("two", notes), notes) == ("http://mine.test/v1", "two", [])


def test_what_can_not_be_registered_is_not_kept(config):
    with pytest.raises(allos.ConfigurationError, match=r"register\(\): 'mine' is a new endpoint and has no base_url"):
        allos.register("mine", key_variables=["MINE_KEY"])
    assert endpoints.table().get("mine") is None


def test_a_table_that_is_no_toml_is_named_with_file_and_line(config):
    path = config("config.toml", '[endpoints.mine]\nbase_url = "https://x.test\n')
    with pytest.raises(allos.ConfigurationError, match="line 2") as caught:
        table()
    assert str(path) in str(caught.value)


def test_a_program_may_register_an_endpoint(config):
    row = allos.register("mine", base_url="https://llm.example.com/v1", key_variables=["MINE_KEY"])
    assert (row.alias, row.needs_key, row.origin) == ("mine", True, "register()")
    assert endpoints.find("mine") == row
    allos.register("mine", default_model="m")
    assert endpoints.find("mine").base_url == "https://llm.example.com/v1"
    assert endpoints.find("mine").default_model == "m"
    with pytest.raises(allos.ConfigurationError, match=r"register\(\): mine.base_uri is not a known key"):
        allos.register("mine", base_uri="https://x.test")


def test_a_project_may_name_models_and_nothing_else_of_a_row():
    found = table({}, project={"groq": {"models": {"fast": "llama"}, "default_model": "fast"}}, source="allos.toml")
    assert (found.find("groq").models, found.find("groq").default_model) == ({"fast": "llama"}, "fast")
    for key, value in {"base_url": "https://evil.test/v1", "key_variables": ["OPENAI_API_KEY"]}.items():
        with pytest.raises(allos.ConfigurationError, match=rf"allos.toml: .*may not set '{key}'"):
            table({}, project={"groq": {key: value}}, source="allos.toml")
    with pytest.raises(allos.ConfigurationError, match=r"allos\.toml: Unknown provider 'gorq'\. Did you mean 'groq'\?"):
        table({}, project={"gorq": {"models": {"fast": "llama"}}}, source="allos.toml")
    with pytest.raises(allos.ConfigurationError, match="Unknown provider"):
        table({}, project={"mine": {"default_model": "x"}}, source="allos.toml")


def test_a_model_is_sent_by_the_name_that_the_row_gives_it(config, mock_client):
    config("config.toml", '[endpoints.groq.models]\nfast = "llama-3.1-8b-instant"\n')

    def server(request):
        assert answers.body(request)["model"] == "llama-3.1-8b-instant"
        return answers.answer(request, "hi")

    given = {"provider": "groq", "model": "fast", "base_url": "http://mock.test/v1", "wire": "chat"}
    with mock_client(server, **given) as client:
        reply = client.chat("hi")
    assert [(note.action, note.what) for note in reply.notes] == [("changed", "model")]


# Addresses and keys as people paste them


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
        (' "http://localhost:8080/v1" ', "http://localhost:8080/v1"),
        ("HTTP://localhost:8080/v1", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/chat/completions", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/responses", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/models", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/v1", "http://localhost:8080/v1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_mended_where_it_is_plain_what_was_meant(given, meant):
    assert clean_base_url(given, "--base-url") == meant


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "is empty"),
        ("localhost:8080/v1", "http://localhost:8080/v1"),
        ("api.example.com/v1", "https://api.example.com/v1"),
        ("ftp://x.test", "http:// or https://"),
        ("http://a b/v1", "a space or a control character"),
        ("http://a\n/v1", "a space or a control character"),
        ("http://x.test:99999", "can't be read"),
        ("http://:8080", "names no host"),
        ("http://x.test:0/v1", "names no port"),
        ("http://x.test/v1?api-version=1", "query"),
        ("http://ada:hunter2@x.test/v1", "user name or password"),
    ],
)
def test_any_other_address_is_refused_with_the_setting_that_holds_it(given, words):
    with pytest.raises(allos.ConfigurationError) as caught:
        clean_base_url(given, "--base-url")
    assert words in str(caught.value)
    assert "--base-url" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("given", ["sk-abc\n", " sk-abc", "\ufeffsk-abc", "\tsk-abc\r\n"])
def test_what_stands_around_a_key_is_taken_off(given):
    assert clean_key(given, "GROQ_API_KEY") == "sk-abc"


@pytest.mark.parametrize("given", ["sk-abc def", "sk-abc\ndef", "sk-•••", "sk-***", "sk-äbc", "sk-\x00abc", "", " "])
def test_a_key_that_can_not_be_sent_is_refused_without_showing_it(given):
    with pytest.raises(allos.ConfigurationError, match="GROQ_API_KEY") as caught:
        clean_key(given, "GROQ_API_KEY")
    assert "sk-" not in str(caught.value)
