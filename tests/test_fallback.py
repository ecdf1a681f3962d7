"""Whom a call asks when the chosen place fails, through every door."""

from __future__ import annotations

import itertools
import re

import answers
import openai
import pytest
from all_doors import DOORS, through
from doors import http

import allos
from allos import fallback, settings
from allos.fallback import Circuit, Journey, moves

OVERLOADED = {"error": {"message": "Overloaded, try later.", "type": "overloaded_error"}}
FIRST, SECOND, THIRD = "api.groq.com", "api.together.ai", "api.mistral.ai"


@pytest.fixture(autouse=True)
def no_memory_of_other_tests(monkeypatch):
    monkeypatch.setattr(fallback, "_circuits", {})
    for name in ("GROQ", "TOGETHER", "MISTRAL"):
        monkeypatch.setenv(f"{name}_API_KEY", f"secret-of-{name.lower()}")


def answering(**hosts):
    """Each place answers as given, by the first part of its name; the others say hello."""

    def answer(request):
        made = hosts.get(request.url.host.split(".")[1], "Hello.")
        made = made(request) if callable(made) else made
        if isinstance(made, Exception):
            raise made
        return answers.answer(request, made) if isinstance(made, str) else made

    return answer


def refused(request):
    return http.ConnectError("Connection refused", request=request)


def status(code, body=OVERLOADED, **headers):
    return lambda request: http.Response(code, json=body, headers=headers)


def lines(*events):
    """A stream of these events that then ends, and nothing more."""
    return lambda request: answers.events(events)


BEGUN = answers.stream("chat")[0]
SPOKEN = answers.stream("chat", "Half")[1]
OUTAGES = {
    "refused": refused,
    "too slow": lambda request: http.ReadTimeout("timed out", request=request),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "529": status(529),
    "out of quota": status(429, {"error": {"message": "No credit.", "code": "insufficient_quota"}}),
    "402": status(402),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_moves_the_call_and_the_answer_says_so(door, outage, streamed, sockets):
    sockets.answer = answering(groq=OUTAGES[outage])
    made = through(door, "groq", streamed=streamed, fallback=["together/other"])
    assert made.text == "Hello."
    assert sockets.hosts == [FIRST, SECOND]
    assert answers.body(sockets.last)["model"] == "other"
    assert "together/other answered instead: " in made.notes
    assert "Groq" in made.notes


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "events",
    [(), (BEGUN,), (BEGUN, 'data: {"error": {"message": "Overloaded.", "code": 503}}')],
    ids=["empty", "cut", "error"],
)
def test_a_stream_that_dies_before_its_first_word_moves_the_call(door, events, sockets):
    sockets.answer = answering(groq=lines(*events))
    made = through(door, "groq", streamed=True, fallback=["together/other"])
    assert made.text == "Hello."
    assert sockets.hosts == [FIRST, SECOND]
    assert "together/other answered" in made.notes


@pytest.mark.parametrize("door", DOORS)
def test_a_stream_that_dies_after_its_first_word_moves_nowhere(door, sockets):
    sockets.answer = answering(groq=lines(BEGUN, SPOKEN))
    if door == "command":
        made = through(door, "groq", streamed=True, fallback=["together/other"])
        assert (made.text, made.status) == ("Half", 7)
    else:
        with pytest.raises(openai.APIError, match="incomplete"):
            through(door, "groq", streamed=True, fallback=["together/other"])
    assert sockets.hosts == [FIRST]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_a_refusal_moves_nowhere(door, code, streamed, sockets):
    sockets.answer = answering(groq=status(code, {"error": {"message": "No."}}))
    if door == "command":
        assert through(door, "groq", streamed=streamed, fallback=["together/other"]).status in (3, 6)
    else:
        with pytest.raises(openai.APIStatusError) as caught:
            through(door, "groq", streamed=streamed, fallback=["together/other"])
        assert caught.value.status_code == code
    assert sockets.hosts == [FIRST] * len(sockets.hosts)


@pytest.mark.parametrize("door", DOORS)
def test_where_all_fail_the_last_error_tells_of_those_before(door, streamed, sockets):
    sockets.answer = answering(groq=refused, together=status(503))
    if door == "command":
        made = through(door, "groq", streamed=streamed, fallback=["together/other"])
        assert made.status == 6
        said = made.notes
    else:
        with pytest.raises(openai.InternalServerError) as caught:
            through(door, "groq", streamed=streamed, fallback=["together/other"])
        said = str(caught.value)
    assert sockets.hosts == [FIRST, SECOND]
    assert "Overloaded" in said
    assert "Before it:" in said
    assert "refused" in said
    assert len(said) < 700


@pytest.mark.parametrize("door", DOORS)
def test_no_more_than_three_requests_are_made_by_default(door, streamed, sockets):
    sockets.answer = answering(groq=refused, together=status(503), mistral=status(503))
    options = {"fallback": ["together/other", "mistral/third", "groq/fourth"], "max_retries": 2}
    if door == "command":
        through(door, "groq", streamed=streamed, **options)
    else:
        with pytest.raises(openai.APIError):
            through(door, "groq", streamed=streamed, **options)
    assert sockets.hosts == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize("door", DOORS)
def test_nothing_of_the_first_place_reaches_the_second(door, streamed, sockets, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "secret-org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "secret-project")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Custom: secret-custom")
    monkeypatch.setenv("ALLOS_API_KEY", "secret-of-allos")
    monkeypatch.setenv("ALLOS_MODEL", "secret-model")
    monkeypatch.setenv("ALLOS_WIRE", "chat")
    sockets.answer = answering(openai=status(503))
    through(door, "openai", streamed=streamed, fallback=["together/other"])
    first, second = sockets.requests
    assert "secret-org" in first.headers.values()
    assert second.headers["authorization"] == "Bearer secret-of-together"
    assert [value for value in second.headers.values() if "secret" in value] == ["Bearer secret-of-together"]
    assert b"secret" not in second.content


def test_headers_and_query_of_the_program_stay_with_the_first_place(sockets):
    sockets.answer = answering(groq=status(503))
    client = allos.OpenAI(
        "groq", fallback=["together/other"], default_headers={"X-Own": "secret"}, default_query={"v": "secret"}
    )
    with client:
        client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "Hi"}],
            extra_headers={"Authorization": "Bearer secret", "X-More": "secret"},
            extra_query={"q": "secret"},
        )
    first, second = sockets.requests
    assert (first.headers["x-own"], first.headers["authorization"]) == ("secret", "Bearer secret")
    assert "secret" not in {*second.headers.values(), str(second.url)}
    assert second.headers["authorization"] == "Bearer secret-of-together"


def test_a_raw_response_of_another_place_is_one(sockets):
    sockets.answer = answering(groq=status(503))
    with allos.OpenAI("groq", fallback=["together/other"]) as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert raw.parse().choices[0].message.content == "Hello."
        assert allos.receipt(raw).endpoint == "together"


@pytest.mark.parametrize("door", DOORS)
def test_the_environment_names_places_too(door, sockets, monkeypatch):
    monkeypatch.setenv("ALLOS_FALLBACK", "together/other, mistral/third")
    sockets.answer = answering(groq=status(503), together=status(503))
    assert through(door, "groq").text == "Hello."
    assert sockets.hosts == [FIRST, SECOND, THIRD]


def test_the_official_client_with_nothing_else_set_takes_the_places_of_the_environment(sockets, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    monkeypatch.setenv("ALLOS_FALLBACK", "together/other")
    sockets.answer = answering(openai=refused)
    with allos.OpenAI() as client:
        made = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert made.choices[0].message.content == "Hello."
    assert sockets.hosts == ["api.openai.com", SECOND]


@pytest.mark.parametrize("kind", [allos.OpenAI, allos.AsyncOpenAI])
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_place_without_a_key_is_refused_where_nothing_else_of_allos_is_set(kind, by, monkeypatch):
    monkeypatch.setenv("ALLOS_FALLBACK", "deepseek/m" if by == "environment" else "")
    with pytest.raises(allos.KeyMissing, match="DEEPSEEK_API_KEY"):
        kind(**{"fallback": ["deepseek/m"]} if by == "argument" else {})


def test_what_the_next_place_can_not_be_asked_tells_why_it_was_to_be(sockets, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    sockets.answer = answering(groq=status(503))
    client = allos.Client("groq", "m", fallback=["openai/m"], max_retries=0)
    with pytest.raises(allos.Unsupported, match=r"'stop' can't be said[^\n]*\nBefore it: .*503"):
        client.chat("Hi", stop="x")
    assert sockets.hosts == [FIRST]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("togehter/m", "'together'"),
        ("vllm", "'vllm/MODEL'"),
        ("deepseek/", "'deepseek/' of .*fallback.* names no model. Write 'deepseek/MODEL'."),  # nor is there a key
        ("deepseek/m", "DEEPSEEK_API_KEY"),
        ("http://localhost:1234/v1", r"holds an address\. .*\[endpoints\.NAME\] in your config\.toml"),
    ],
    ids=["unknown", "no model", "no model after the slash", "no key", "address"],
)
def test_a_place_that_can_not_be_asked_is_refused_at_once(door, entry, words, sockets):
    if door == "command":
        made = through(door, "groq", fallback=[entry])
        assert made.status in (2, 3)
        assert re.search(words, made.notes)
    else:
        with pytest.raises(allos.ConfigurationError, match=words):
            through(door, "groq", fallback=[entry])
    assert not sockets.requests


@pytest.mark.parametrize("door", DOORS)
def test_used_up_quota_is_known_by_the_services_own_code(door, streamed, sockets):
    balance = {"error": {"code": "1113", "message": "Recharge, please."}}
    sockets.answer = answering(z=status(400, balance))
    made = through(door, "zai", streamed=streamed, api_key="secret-of-zai", fallback=["together/other"])
    assert made.text == "Hello."
    assert sockets.hosts == ["api.z.ai", SECOND]


def test_a_place_is_not_asked_again_more_often_than_max_retries_says(sockets, streamed, monkeypatch):
    monkeypatch.setattr("allos.retry.random.uniform", lambda low, high: 0.0)
    sockets.answer = answering(groq=status(503))
    with allos.Client("groq", "m", fallback=["together/other", "mistral/third"], max_retries=1) as client:
        for _, way in itertools.product(range(3), client._ways[1:]):
            way.failed()
        with pytest.raises(openai.InternalServerError):
            client.chat("Hi") if not streamed else list(client.stream("Hi"))
    assert sockets.hosts == [FIRST, FIRST]


# What a service keeps.


def test_a_call_that_names_a_history_of_the_service_moves_nowhere(sockets):
    sockets.answer = answering(openai=status(503))
    client = allos.Client("openai", "m", api_key="k", fallback=["together/other"], max_retries=0)
    with client, pytest.raises(openai.InternalServerError):
        client.chat("Hi", extra={"previous_response_id": "resp_1"})
    assert sockets.hosts == ["api.openai.com"]


def test_a_response_that_openai_keeps_is_not_asked_for_elsewhere(sockets, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    sockets.answer = answering(openai=status(503))
    client = allos.OpenAI("openai", fallback=["together/other"], max_retries=0)
    with client, pytest.raises(openai.InternalServerError):
        client.responses.create(model="m", input="And then?", previous_response_id="resp_1")
    assert sockets.hosts == ["api.openai.com"]


def test_a_history_that_is_kept_here_is_replayed_elsewhere_and_back(sockets):
    def saying(text):
        return lambda request: http.Response(200, json=answers.whole("chat", text) | {"id": f"chatcmpl-{text}"})

    sockets.answer = answering(together=saying("First."))
    with allos.OpenAI("together", fallback=["mistral/third"], max_retries=0) as client:
        first = client.responses.create(model="m", input="One?")
        sockets.answer = answering(together=status(503), mistral=saying("Second."))
        second = client.responses.create(model="m", input="Two?", previous_response_id=first.id)
        assert second.output_text == "Second."
        sockets.answer = answering(together=saying("Third."))
        client.responses.create(model="m", input="Three?", previous_response_id=second.id)
    said = [message["content"] for message in answers.body(sockets.last)["messages"]]
    assert said == ["One?", "First.", "Two?", "Second.", "Three?"]
    assert sockets.hosts == [SECOND, SECOND, THIRD, SECOND]


def test_a_talk_with_tools_stays_where_it_was_answered(sockets):
    def now() -> str:
        """The time."""
        return "noon"

    def mistral(request):
        if answers.body(request)["messages"][-1]["role"] == "tool":
            return "It is noon."
        return answers.call(request, ("call_1", "now", "{}"))

    sockets.answer = answering(groq=status(503), mistral=mistral)
    with allos.Client("groq", "m", fallback=["mistral/third"], max_retries=0) as client:
        assert client.chat("What time is it?", tools=[now]).text == "It is noon."
    assert sockets.hosts == [FIRST, THIRD, THIRD]


# The parts that think.


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_place_that_failed_three_times_is_left_alone_and_then_tried_by_one_call():
    clock = Clock()
    circuit = Circuit(clock)
    for _ in range(3):
        assert circuit.allows()
        circuit.failed()
    assert not circuit.allows()
    clock.now += 14
    assert not circuit.allows()
    clock.now += 1
    assert circuit.allows()
    assert not circuit.allows(), "one call is enough to try it"
    circuit.worked()
    assert circuit.allows()
    assert circuit.allows()


def test_the_pause_doubles_up_to_five_minutes():
    clock = Clock()
    circuit = Circuit(clock)
    pauses = []
    for _ in range(9):
        circuit.failed()
        begun = clock.now
        while not circuit.allows():
            clock.now += 1
        pauses.append(clock.now - begun)
    assert pauses == [0, 0, 15, 30, 60, 120, 240, 300, 300]


def test_a_place_is_left_alone_as_long_as_it_asks():
    clock = Clock()
    circuit = Circuit(clock)
    circuit.failed(40.0)
    clock.now += 39
    assert not circuit.allows()
    clock.now += 1
    assert circuit.allows()


def test_an_answer_in_between_starts_the_count_anew():
    circuit = Circuit(Clock())
    for _ in range(5):
        circuit.failed()
        circuit.failed()
        circuit.worked()
    assert circuit.allows()


def unreached():
    return openai.APIConnectionError(request=http.Request("POST", "http://mock.test"))


def test_a_journey_passes_over_places_that_are_down():
    clock = Clock()
    ways = [Circuit(clock), Circuit(clock), Circuit(clock)]
    ways[1].failed(60.0)
    journey = Journey(["a", "b", "c"], ways)
    assert journey.failed(unreached())
    assert journey.place == 2
    assert not journey.failed(unreached())


def test_a_journey_begins_elsewhere_while_its_first_place_is_down_but_not_where_all_are():
    clock = Clock()
    ways = [Circuit(clock), Circuit(clock)]
    ways[0].failed(60.0)
    assert Journey(["a", "b"], ways).place == 1
    assert Journey(["a", "b"], ways).notes()[0].reason == "b answered instead: a did not answer lately"
    ways[1].failed(60.0)
    assert Journey(["a", "b"], ways).place == 0


@pytest.mark.parametrize("door", DOORS)
def test_a_dead_place_is_not_asked_again_and_again(door, sockets):
    sockets.answer = answering(groq=refused)
    for _ in range(6):
        assert through(door, "groq", fallback=["together/other"]).text == "Hello."
    assert sockets.hosts == [FIRST, SECOND] * 3 + [SECOND] * 3


def test_without_other_places_a_dead_one_is_asked_every_time(sockets):
    sockets.answer = answering(groq=refused)
    for _ in range(6):
        with pytest.raises(openai.APIConnectionError):
            through("Client", "groq")
    assert sockets.hosts == [FIRST] * 6


def test_what_is_no_outage_moves_nothing():
    assert not moves(ValueError())
    assert not moves(allos.Unsupported("no"))
    assert moves(unreached())


def test_each_place_has_settings_of_its_own(monkeypatch):
    target = settings.resolve("groq", "m", fallback=["together/other", "local"], timeout=7.0, system="Be brief.")
    together, local = target.fallback
    assert (together.model, together.timeout, together.system) == ("other", 7.0, "Be brief.")
    assert together.key_origin == "TOGETHER_API_KEY"
    assert (local.endpoint.alias, local.base_url, local.api_key) == ("local", None, None)
    assert any("'together/other', 'local' is asked" in line for line in target.why)
