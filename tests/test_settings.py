"""Where a setting comes from, what wins, and where a prompt and a key go by it."""

from __future__ import annotations

import pytest

import allos
from allos import settings


@pytest.fixture
def world(tmp_path):
    """A user's folder, a project in a git checkout, and an environment that knows both."""

    class World:
        directory = tmp_path / "project" / "src"
        user_file = tmp_path / "config" / "allos" / "config.toml"
        project_file = tmp_path / "project" / "allos.toml"
        env_file = tmp_path / "named.env"

        def __init__(self):
            self.environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}

        def write(self, path, text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

        def load(self, **flags):
            env_file = flags.pop("env_file", None)
            return settings.load(environ=self.environ, directory=self.directory, env_file=env_file, **flags)

        def target(self, **flags):
            return self.load(**flags).resolve()

        def set(self, **variables):
            self.environ = {**self.environ, **variables}

    made = World()
    made.directory.mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    return made


# What wins


def test_the_nearest_place_wins_and_each_value_knows_its_origin(world):
    def system():
        found = world.load(env_file=world.env_file if world.env_file.exists() else None)
        return found.system, found.origin("system")

    assert system() == (None, "default")
    world.write(world.user_file, 'system = "user"\n')
    assert system() == ("user", str(world.user_file))
    world.write(world.project_file, 'system = "project"\n')
    assert system() == ("project", str(world.project_file))
    world.write(world.env_file, "ALLOS_SYSTEM=named\n")
    assert system() == ("named", f"ALLOS_SYSTEM in {world.env_file}")
    world.set(ALLOS_SYSTEM="environment")
    assert system() == ("environment", "ALLOS_SYSTEM")
    found = world.load(system="flag")
    assert (found.system, found.origin("system")) == ("flag", "the system argument")


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_empty_counts_as_unset(world, empty):
    world.write(world.user_file, 'model = "groq/from-the-file"\nsystem = ""\n')
    world.set(ALLOS_MODEL=empty, ALLOS_PROVIDER=empty, ALLOS_TIMEOUT=empty, GROQ_API_KEY="sk-mock-groq")
    found = world.load(model="", provider=None)
    assert (found.model, found.system, found.timeout) == ("groq/from-the-file", None, None)
    world.set(GROQ_API_KEY=empty)
    with pytest.raises(allos.KeyMissing, match="GROQ_API_KEY"):
        world.target()


def test_every_setting_has_a_variable(world):
    world.set(
        ALLOS_PROVIDER="groq", ALLOS_MODEL="m", ALLOS_API_KEY="sk-mock", ALLOS_WIRE="chat", ALLOS_TIMEOUT="7.5",
        ALLOS_MAX_RETRIES="0", ALLOS_MAX_TOKENS="9", ALLOS_TEMPERATURE="0.5", ALLOS_TOP_P="1", ALLOS_SEED="3",
        ALLOS_STOP="END", ALLOS_REASONING_EFFORT="low", ALLOS_ON_UNSUPPORTED="error", ALLOS_FALLBACK="ollama/m, local",
    )  # fmt: skip
    found = world.load()
    assert (found.provider, found.model, found.wire, found.timeout, found.max_retries) == ("groq", "m", "chat", 7.5, 0)
    assert (found.stop, found.fallback, found.on_unsupported) == (("END",), ("ollama/m", "local"), "error")
    target = world.target()
    assert dict(target.options) == {
        "temperature": 0.5, "top_p": 1.0, "max_tokens": 9, "seed": 3, "stop": ("END",), "reasoning_effort": "low"
    }  # fmt: skip
    assert target.api_key.get_secret_value() == "sk-mock"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("wire", "grpc", "Can't use wire='grpc' from ALLOS_WIRE"),
        ("timeout", "0", "Can't use timeout='0' from ALLOS_TIMEOUT"),
        ("timeout", "soon", "from ALLOS_TIMEOUT"),
        ("max_retries", "-1", "from ALLOS_MAX_RETRIES"),
        ("temperature", "warm", "from ALLOS_TEMPERATURE"),
    ],
)
def test_a_value_that_can_not_be_is_named_with_its_place(world, name, value, words):
    world.set(**{f"ALLOS_{name.upper()}": value})
    with pytest.raises(allos.ConfigurationError) as caught:
        world.load()
    assert words in str(caught.value)


# Files


@pytest.mark.fault("N7")
def test_an_env_file_is_read_only_when_it_is_named(world, monkeypatch):
    world.write(world.directory / ".env", "ALLOS_MODEL=stolen\nGROQ_API_KEY=sk-mock-stolen\n")
    assert world.load().model is None
    monkeypatch.chdir(world.directory)
    assert settings.load(environ=world.environ).model is None
    assert "GROQ_API_KEY" not in world.load().environ
    world.set(ALLOS_ENV_FILE=str(world.directory / ".env"))
    assert world.load().model == "stolen"
    assert world.load().environ["GROQ_API_KEY"] == "sk-mock-stolen"


@pytest.mark.fault("N7")
def test_a_named_env_file_never_overrides_the_environment(world):
    world.write(world.env_file, "GROQ_API_KEY=sk-mock-file\nALLOS_PROVIDER=groq\n")
    world.set(GROQ_API_KEY="sk-mock-environment")
    target = world.target(env_file=world.env_file)
    assert target.api_key.get_secret_value() == "sk-mock-environment"
    assert target.endpoint.alias == "groq"


def test_an_env_file_that_is_not_there_is_named(world):
    with pytest.raises(allos.ConfigurationError, match=r"nowhere\.env"):
        world.load(env_file="nowhere.env")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A=1\n\nroot user of all\nB=2\n", "line 3 is not of the form NAME=VALUE"),
        ("A=1\nB='no end\n", "line 2 is not of the form NAME=VALUE"),
        ("root:x:0:0:root:/root:/bin/sh\n", "line 1 is not of the form NAME=VALUE"),
        (None, "Is a directory. See env_file= and ALLOS_ENV_FILE"),
    ],
)
def test_an_env_file_that_can_not_be_read_is_one_error_with_its_line(world, caplog, text, words):
    if text is None:
        world.env_file.mkdir()
    else:
        world.write(world.env_file, text)
    with pytest.raises(allos.ConfigurationError) as caught:
        world.load(env_file=world.env_file)
    assert str(world.env_file) in str(caught.value)
    assert words in str(caught.value)
    assert "root user" not in str(caught.value)  # it may be a secret
    assert not caplog.records


def test_an_env_file_may_be_written_as_for_a_shell(world):
    world.write(
        world.env_file, "\ufeff# mine\r\nexport ALLOS_MODEL='m'\r\n\r\nALLOS_SYSTEM=\"a\\nb\" # two lines\r\nLONE\r\n"
    )
    found = world.load(env_file=world.env_file)
    assert (found.model, found.system) == ("m", "a\nb")


@pytest.mark.fault("N7")
@pytest.mark.parametrize(
    "line",
    ['provider = "ollama"', 'base_url = "https://evil.test/v1"', 'api_key = "sk-mock"', 'wire = "chat"',
     "timeout = 3", 'fallback = ["ollama"]', 'local_model = "x.gguf"', 'on_unsupported = "ignore"', 'state = "x"'],
)  # fmt: skip
@pytest.mark.parametrize("file", ["allos.toml", "pyproject.toml"])
def test_a_project_may_not_say_where_a_prompt_goes(world, line, file):
    header = "[tool.allos]\n" if file == "pyproject.toml" else ""
    world.write(world.project_file.with_name(file), f"{header}{line}\n")
    with pytest.raises(allos.ConfigurationError, match=line.split()[0]) as caught:
        world.load()
    assert f"line {2 if header else 1}" in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_a_project_may_set_model_system_and_sampling(world):
    world.write(
        world.project_file,
        'model = "m"\nsystem = "s"\nformat = "json"\ntemperature = 0\nmax_tokens = 5\n'
        '[endpoints.groq]\ndefault_model = "fast"\n[endpoints.groq.models]\nfast = "llama"\n',
    )
    found = world.load(provider="groq", api_key="sk-mock")
    assert (found.model, found.system, found.format, found.temperature) == ("m", "s", "json", 0)
    assert found.resolve().endpoint.models == {"fast": "llama"}


def test_a_pyproject_without_a_word_for_allos_is_left_alone(world):
    world.write(world.project_file.with_name("pyproject.toml"), "this is = no toml [[[")
    assert world.load().model is None


def test_a_file_outside_the_checkout_is_no_project_file(world):
    world.write(world.project_file.parents[1] / "allos.toml", 'system = "outside"\n')
    assert world.load().system is None


@pytest.mark.fault("X14")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('modle = "x"\n', "line 1: unknown setting 'modle'. Did you mean 'model'?"),
        ('model = "x"\napi_key = "sk-mock-secret"\n', "line 2: 'api_key' may not stand in a file"),
        ("model = x\n", "line 1"),
        ("[endpoints]\ngroq = 3\n", "must be a table"),
        ("temperature = 'hot'\n", "Can't use temperature='hot'"),
    ],
)
def test_a_user_file_that_can_not_be_is_named_with_its_line(world, text, words):
    world.write(world.user_file, text)
    with pytest.raises(allos.ConfigurationError) as caught:
        world.load()
    assert words in str(caught.value)
    assert str(world.user_file) in str(caught.value)
    assert "sk-mock-secret" not in str(caught.value)


# Where a prompt goes


def test_with_nothing_set_the_embedded_model_answers_and_this_is_told(world):
    target = world.target()
    assert (target.endpoint.alias, target.base_url, target.api_key) == ("local", None, None)
    assert target.notices == ("No provider is set and no API key was found; using the embedded model.",)


@pytest.mark.parametrize(
    ("variables", "alias"),
    [
        (["GROQ_API_KEY"], "groq"),
        (["GROQ_API_KEY", "OPENAI_API_KEY"], "openai"),
        (["MISTRAL_API_KEY", "GROQ_API_KEY"], "groq"),
    ],
)
def test_a_key_in_the_environment_picks_its_provider_openai_first(world, variables, alias):
    world.set(**dict.fromkeys(variables, "sk-mock-key"))
    target = world.target()
    assert target.endpoint.alias == alias
    assert f"using {alias!r}" in target.notices[0]


def test_a_model_that_begins_with_an_alias_names_the_provider(world):
    world.set(GROQ_API_KEY="sk-mock-groq", OPENAI_API_KEY="sk-mock-openai")
    target = world.target(model="groq/openai/gpt-oss-20b")
    assert (target.endpoint.alias, target.model) == ("groq", "openai/gpt-oss-20b")
    assert target.api_key.get_secret_value() == "sk-mock-groq"


def test_an_alias_without_a_model_after_its_slash_is_told_what_is_missing(world):
    with pytest.raises(allos.ConfigurationError) as caught:
        world.target(model="groq/")
    said = "The model 'groq/' of the model argument names no model. Write it after the slash: 'groq/MODEL'."
    assert str(caught.value) == said
    assert world.target(provider="ollama", model="own/").model == "own/"


def test_a_model_of_a_project_never_picks_the_provider(world):
    world.write(world.project_file, 'model = "groq/llama"\n')
    world.set(OPENAI_API_KEY="sk-mock-openai", GROQ_API_KEY="sk-mock-groq")
    assert world.target().endpoint.alias == "openai"


def test_a_model_stays_behind_where_a_higher_level_sends_the_prompt_elsewhere(world):
    world.write(world.user_file, 'provider = "groq"\nmodel = "llama"\n')
    world.set(GROQ_API_KEY="sk-mock-groq", MISTRAL_API_KEY="sk-mock-mistral")
    assert world.target().model == "llama"
    assert world.target(provider="mistral").model != "llama"


@pytest.mark.fault("N6")
def test_an_alias_wins_over_an_address_that_was_set_below_it(world):
    world.set(OPENAI_BASE_URL="https://elsewhere.test/v1", ALLOS_BASE_URL="https://other.test/v1", GROQ_API_KEY="sk-m")
    assert world.target(provider="groq").base_url == "https://api.groq.com/openai/v1"


def test_the_guides_names_of_both_apis_choose_the_api(world):
    given = {"base_url": "http://127.0.0.1:8080/v1", "model": "m"}
    assert world.target(provider="chat_completions", **given).speaks == "chat"
    assert world.target(provider="openai", **given).speaks == "responses"
    assert world.target(provider="openai", wire="chat", **given).speaks == "chat"


# A key belongs to a host


@pytest.mark.fault("N5")
@pytest.mark.parametrize(
    "given",
    [
        {"provider": "chat_completions", "base_url": "https://elsewhere.test/v1"},
        {"provider": "openai", "base_url": "https://elsewhere.test/v1"},
        {"base_url": "https://elsewhere.test/v1"},
        {"base_url": "https://api.openai.com.evil.test/v1"},
        {"provider": "ollama"},
    ],
)
def test_openais_key_never_goes_to_another_host(world, given):
    world.set(OPENAI_API_KEY="sk-mock-openai")
    target = world.target(**given)
    assert target.api_key is None
    assert "sk-mock-openai" not in repr(target)


def test_a_key_that_was_withheld_is_told_with_the_way_to_send_it(world):
    world.set(OPENAI_API_KEY="sk-mock-openai")
    target = world.target(provider="openai", base_url="https://elsewhere.test/v1", model="m")
    assert "OPENAI_API_KEY was not sent to elsewhere.test" in target.withheld
    assert "pass api_key=" in target.withheld


def test_openais_key_goes_to_openai_and_where_its_own_variable_says(world):
    world.set(OPENAI_API_KEY="sk-mock-openai")
    assert world.target(provider="openai").api_key.get_secret_value() == "sk-mock-openai"
    assert world.target(base_url="https://api.openai.com/v1").api_key.get_secret_value() == "sk-mock-openai"
    world.set(OPENAI_BASE_URL="https://proxy.test/v1")
    target = world.target(provider="openai")
    assert (target.base_url, target.api_key.get_secret_value()) == ("https://proxy.test/v1", "sk-mock-openai")


def test_a_key_that_is_given_goes_where_the_call_goes(world):
    target = world.target(base_url="https://elsewhere.test/v1", api_key="sk-mock-given")
    assert target.api_key.get_secret_value() == "sk-mock-given"
    assert "sk-mock-given" not in repr(target)
    assert target.key_origin == "the api_key argument"


def test_allos_key_stays_with_the_destination_of_its_own_level(world):
    world.set(ALLOS_PROVIDER="groq", ALLOS_API_KEY="sk-mock-groq", MISTRAL_API_KEY="sk-mock-mistral")
    assert world.target().api_key.get_secret_value() == "sk-mock-groq"
    assert world.target(provider="mistral").api_key.get_secret_value() == "sk-mock-mistral"


@pytest.mark.parametrize("entry", ["chat_completions", "chat_completions/gpt-9"])
def test_a_fallback_to_a_server_without_a_name_does_not_go_to_openai(world, entry):
    world.set(OPENAI_API_KEY="sk-mock-openai", GROQ_API_KEY="sk-mock-groq", OPENAI_BASE_URL="http://mine.test/v1")
    with pytest.raises(allos.ConfigurationError, match=f"'{entry}' of the fallback argument names no place"):
        world.target(provider="groq", fallback=[entry])


def test_a_missing_key_names_the_variable_and_the_way_without_one(world):
    with pytest.raises(allos.KeyMissing) as caught:
        world.target(provider="groq")
    assert "No API key for 'groq'. Set GROQ_API_KEY or pass api_key=" in str(caught.value)
    assert "`provider='local'` needs none" in str(caught.value)
    with pytest.raises(allos.KeyMissing, match="or name another server by base_url="):
        world.target(provider="chat_completions")


def test_an_address_says_where_it_is_from(world):
    world.set(GROQ_API_KEY="sk-mock-groq")
    assert any("openai/v1 is built in." in said for said in world.target(provider="groq").why)
    world.set(OLLAMA_HOST="http://den.test:11434")
    assert any("is from OLLAMA_HOST." in said for said in world.target(provider="ollama", model="m").why)


@pytest.mark.parametrize(
    ("entry", "way"), [("groq/m", "Set GROQ_API_KEY. "), ("jan/m", "Name its variable as key_variables of")]
)
def test_a_missing_key_of_a_fallback_names_only_what_can_help(world, entry, way):
    with pytest.raises(allos.KeyMissing) as caught:
        world.target(base_url="http://127.0.0.1:8080/v1", api_key="sk-mock", fallback=[entry])
    assert f"'{entry}' of the fallback argument can't be asked. No API key for" in str(caught.value)
    assert way in str(caught.value)
    assert "api_key=" not in str(caught.value)


def test_a_local_server_needs_no_key(world):
    target = world.target(provider="ollama")
    assert target.api_key is None
    assert target.base_url == "http://localhost:11434/v1"


@pytest.mark.parametrize(
    ("value", "base_url"),
    [
        ("gpu-box", "http://gpu-box:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("gpu-box:9999", "http://gpu-box:9999/v1"),
        ("https://gpu-box/ollama/v1", "https://gpu-box:11434/ollama/v1"),
    ],
)
def test_a_host_in_a_variable_is_completed_to_an_address(world, value, base_url):
    world.set(OLLAMA_HOST=value)
    assert world.target(provider="ollama").base_url == base_url


@pytest.mark.parametrize("client", [allos.OpenAI, allos.AsyncOpenAI, allos.Client])
def test_an_address_that_can_not_be_is_named_as_the_argument_that_it_is(client):
    with pytest.raises(allos.ConfigurationError, match="The base_url argument 'localhost:80' has no scheme"):
        client(base_url="localhost:80")


def test_every_choice_has_its_reason(world):
    world.set(GROQ_API_KEY="sk-mock-groq", ALLOS_MODEL="llama")
    why = " ".join(world.target(provider="groq").why)
    for reason in ("'groq', from the provider argument", "'llama', from ALLOS_MODEL", "The key is from GROQ_API_KEY"):
        assert reason in why
    assert "sk-mock" not in why


@pytest.mark.parametrize(("wire", "base_url"), [("chat", ""), ("responses", "/v1")])
def test_an_api_that_lies_elsewhere_is_asked_there(world, wire, base_url):
    world.set(PERPLEXITY_API_KEY="sk-mock")
    assert world.target(provider="perplexity", wire=wire).base_url == f"https://api.perplexity.ai{base_url}"


def test_an_address_of_ones_own_is_asked_over_either_api(world):
    mine = "http://gateway.test/v1"
    named = world.target(provider="perplexity", wire="responses", base_url=mine, api_key="sk-mock")
    world.set(PERPLEXITY_API_KEY="sk-mock", PERPLEXITY_API_BASE=mine)
    assert named.base_url == world.target(provider="perplexity", wire="responses").base_url == mine


def test_an_address_beside_the_embedded_model_is_that_of_another_server(world):
    target = world.target(provider="local", base_url="http://localhost:9000/v1")
    assert (target.endpoint.alias, target.base_url) == ("chat_completions", "http://localhost:9000/v1")
    assert target.model is None
    assert "another server is asked" in target.why[0]
